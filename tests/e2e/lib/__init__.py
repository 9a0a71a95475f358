# SPDX-License-Identifier: BSD-3-Clause
# Harness of the end-to-end tests: servers, data, a writer, faults, and a comparison of its own.
