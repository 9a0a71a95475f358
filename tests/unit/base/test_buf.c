// SPDX-License-Identifier: BSD-3-Clause
// The buffer: grows, keeps its content, never beyond its cap.
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void it_grows_and_keeps_its_content(void **state)
{
    (void)state;
    struct buf b;
    size_t alloc = 0;
    unsigned times = 0;
    buf_init(&b, 1 << 20);
    for (unsigned i = 0; i < 100000; i++) {
        uint8_t c = (uint8_t)(i * 7);
        assert_int_equal(buf_add(&b, &c, 1, NULL), 0);
        times += b.alloc != alloc;
        alloc = b.alloc;
    }
    assert_true(times < 20); /* by doubling: growing to fit would copy all of it each time */
    assert_int_equal(b.n, 100000);
    for (unsigned i = 0; i < 100000; i++)
        assert_int_equal(b.p[i], (uint8_t)(i * 7));
    buf_clear(&b);
    assert_int_equal(buf_span(&b).n, 0);
    buf_release(&b);
    assert_null(b.p);
    assert_int_equal(buf_add(&b, "again", 5, NULL), 0); /* the cap is kept */
    buf_release(&b);
}

static void the_cap_holds(void **state)
{
    (void)state;
    struct buf b;
    struct err err;
    buf_init(&b, 100);
    assert_int_equal(buf_add(&b, "0123456789", 10, &err), 0);
    assert_int_equal(buf_reserve(&b, 91, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_int_equal(buf_reserve(&b, SIZE_MAX, &err), -1);
    assert_int_equal(b.n, 10);
    assert_int_equal(buf_reserve(&b, 90, &err), 0);
    assert_true(b.alloc <= 100);
    assert_memory_equal(b.p, "0123456789", 10);
    buf_release(&b);
    buf_init(&b, 3);
    assert_int_equal(buf_add(&b, "abc", 3, &err), 0);
    assert_int_equal(buf_add(&b, "d", 1, &err), -1);
    assert_int_equal(buf_add(&b, NULL, 0, &err), 0);
    buf_release(&b);
}

/* Once the doubling would have overflowed to 0, and gone on for ever. */
static void a_hopeless_size_fails_and_ends(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* their malloc() ends the program instead of failing */
#endif
    struct buf b;
    struct err err;
    buf_init(&b, SIZE_MAX);
    assert_int_equal(buf_reserve(&b, SIZE_MAX / 2 + 2, &err), -1);
    assert_int_equal(err.code, ERR_NOMEM);
    buf_release(&b);
}

static void printf_appends(void **state)
{
    (void)state;
    struct buf b;
    struct err err;
    buf_init(&b, 32);
    assert_int_equal(buf_printf(&b, &err, "%s-%d", "a", 42), 0);
    assert_int_equal(buf_printf(&b, &err, ";"), 0);
    assert_int_equal(b.n, 5);
    assert_memory_equal(b.p, "a-42;", 5);
    assert_int_equal(buf_printf(&b, &err, "%100d", 1), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_int_equal(b.n, 5);
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_grows_and_keeps_its_content),
        cmocka_unit_test(the_cap_holds),
        cmocka_unit_test(a_hopeless_size_fails_and_ends),
        cmocka_unit_test(printf_appends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
