// SPDX-License-Identifier: BSD-3-Clause
// Tests of shards.json: what was saved is read, what is not sound is not believed.
#include "control/group_state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64], path[80];

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/kh-group-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof(path), "%s/shards.json", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static struct group_shard *add(struct group_state *s, unsigned number, unsigned from, unsigned to)
{
    struct err err;
    struct group_shard *made;
    assert_int_equal(group_state_add(s, number, &made, &err), 0);
    for (unsigned i = from; i <= to; i++)
        slot_set_add(&made->slots, (uint16_t)i);
    snprintf(made->node[made->n_nodes++], CLUSTER_ID_MAX, "%040u", number);
    return made;
}

static void round_trip(void **state)
{
    struct group_state s = {0}, got = {0};
    struct err err;
    (void)state;
    assert_false(group_state_exists(dir));
    assert_int_equal(group_state_read(&got, dir, &err), 0);
    struct group_shard *a = add(&s, 1, 0, 5460), *b = add(&s, 7, 5461, 16383),
                       *c = add(&s, 9, 1, 0);
    slot_set_remove(&a->slots, 100);
    slot_set_add(&b->slots, 100);
    slot_set_add(&b->settle, 100);
    slot_set_add(&b->settled, 16383);
    b->settled_to = 123456789012345;
    snprintf(b->node[b->n_nodes++], CLUSTER_ID_MAX, "replica");
    c->ended = true;
    assert_int_equal(group_state_save(&s, dir, &err), 0);
    assert_true(group_state_exists(dir));
    assert_int_equal(group_state_read(&got, dir, &err), 1);
    assert_int_equal(got.n, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_memory_equal(got.shard[i], s.shard[i], sizeof(*s.shard[i]));
    group_state_release(&s);
    group_state_release(&got);
}

static void put(const char *text)
{
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
}

static void refused(const char *text)
{
    struct group_state got = {0};
    struct err err = {0};
    put(text);
    if (group_state_read(&got, dir, &err) >= 0) fail_msg("taken: %s", text);
    assert_int_equal(err.code, ERR_FORMAT);
    assert_non_null(strstr(err.msg, "shards.json is damaged"));
    assert_int_equal(got.n, 0);
}

#define SHARD(n, slots)                                                                            \
    "{\"shard\":" n ",\"ended\":false,\"nodes\":[],\"slots\":\"" slots                             \
    "\",\"settle\":\"\",\"settled\":\"\",\"settled_to\":0}"
#define FILE_OF(shards) "{\"schema\":1,\"shards\":[" shards "]}"

static void not_sound(void **state)
{
    struct group_state got = {0};
    struct err err;
    (void)state;
    put(FILE_OF(SHARD("1", "0-5,7")));
    assert_int_equal(group_state_read(&got, dir, &err), 1);
    assert_int_equal(slot_set_count(&got.shard[0]->slots), 7);
    group_state_release(&got);
    refused("");
    refused("{}");
    refused("[1]");
    refused("{\"schema\":2,\"shards\":[]}");
    refused(FILE_OF("1"));
    refused(FILE_OF(SHARD("0", "")));
    refused(FILE_OF(SHARD("99999", "")));
    refused(FILE_OF(SHARD("1", "16384")));
    refused(FILE_OF(SHARD("1", "5-4")));
    refused(FILE_OF(SHARD("1", "a")));
    refused(FILE_OF(SHARD("1", "1-")));
    refused(FILE_OF(SHARD("1", "99999999999999999999")));
    refused(FILE_OF(SHARD("1", "0-5") "," SHARD("2", "5-6")));
    refused(FILE_OF(SHARD("2", "0") "," SHARD("1", "1")));
    refused("{\"schema\":1,\"shards\":[{\"shard\":1,\"ended\":false,\"nodes\":[1],\"slots\":\"\","
            "\"settle\":\"\",\"settled\":\"\"}]}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(not_sound, setup, teardown),
    };
    return cmocka_run_group_tests_name("group_state", tests, NULL, NULL);
}
