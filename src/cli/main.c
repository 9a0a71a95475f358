// SPDX-License-Identifier: BSD-3-Clause
// The program's entry; all else is in the library, where tests reach it.
#include "cli/cli.h"

int main(int argc, char **argv)
{
    return cli_main(argc, argv);
}
