// The CNI plugin that a container engine runs: hands CNI_* and standard input to the agent's socket, prints its answer.
//
// What goes over the socket: see wire.py. The same in Python, for hosts without a compiler: shim.py; both give the
// same output for the same input. VERSION is answered here, and needs no agent.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { HEADER = 12, ENVIRONMENT_LIMIT = 1 << 18, INPUT_LIMIT = 1 << 20, ANSWER_LIMIT = 4 << 20 };
enum {
    TIMEOUT_MS = 60000, // for everything
    RETRY_MS = 5000,    // how long a missing agent is waited for: it may be restarting
    PAUSE_MS = 50,      // between two attempts
    LOSSES = 3,         // connections lost half-way, after which no further one is made
};
enum { BAD_ENVIRONMENT = 4, IO_FAILURE, NOT_JSON, BAD_CONFIGURATION, TRY_LATER = 11, UNAVAILABLE = 50 };

static const char MAGIC[] = "NFC1", DEFAULT_SOCKET[] = "/run/netfabric/cni.sock";
static const char AGENT[] = "see that netplugin runs on this host and answers";
static const char *const VERSIONS[] = {"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};
enum { VERSION_COUNT = sizeof VERSIONS / sizeof *VERSIONS };

extern char **environ;
static const char *version = "1.0.0"; // what answers are written in: the one asked for, once it is known
static int64_t deadline;

// Answers

static void write_all(const char *at, size_t length) {
    while (length) {
        ssize_t done = write(STDOUT_FILENO, at, length);
        if (done < 0 && errno != EINTR) exit(1);
        if (done > 0) at += done, length -= (size_t)done;
    }
}

// A CNI error: which object, what is wrong with it, and what to do.
static _Noreturn void fail(int code, const char *object, const char *cause, const char *remedy) {
    char name[256], text[1024];
    size_t used = 0;
    for (; *object && used + 7 < sizeof name; object++) {
        unsigned char c = (unsigned char)*object;
        if (c == '"' || c == '\\') name[used++] = '\\';
        if (c < 0x20) used += (size_t)sprintf(name + used, "\\u%04x", c);
        else name[used++] = c < 0x7f ? (char)c : '?';
    }
    name[used] = 0;
    int length = snprintf(text, sizeof text,
                          "{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":\"%s: %s\",\"details\":\"%s\"}\n",
                          version, code, name, cause, remedy);
    write_all(text, (size_t)length);
    exit(1);
}

static _Noreturn void answer_version(void) {
    char text[256];
    int length = sprintf(text, "{\"cniVersion\":\"%s\",\"supportedVersions\":[", version);
    for (int i = 0; i < VERSION_COUNT; i++) length += sprintf(text + length, "%s\"%s\"", i ? "," : "", VERSIONS[i]);
    length += sprintf(text + length, "]}\n");
    write_all(text, (size_t)length);
    exit(0);
}

// The network configuration. Only its top-level texts "socket" and "cniVersion" matter here

struct text {
    char *at;
    size_t size, length;
    bool usable; // it fits, and has no NUL and no half of a surrogate pair
};

static const unsigned char *at, *end; // what is still to be read

static bool is_next(const char *set) { return at < end && *at && strchr(set, *at); }
static void skip_space(void) { while (is_next(" \t\r\n")) at++; }
static bool take(char wanted) { return at < end && *at == (unsigned char)wanted ? at++, true : false; }

static void append(struct text *text, uint32_t byte) {
    if (!byte || text->length + 1 >= text->size) text->usable = false;
    else text->at[text->length++] = (char)byte;
}

static void append_character(struct text *text, uint32_t c) {
    if (c >= 0xd800 && c < 0xe000) text->usable = false;
    int more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    append(text, more ? (0xff00u >> (more + 1) & 0xff) | c >> 6 * more : c);
    while (more--) append(text, 0x80 | (c >> 6 * more & 0x3f));
}

static bool read_hex(uint32_t *value) {
    *value = 0;
    for (int i = 0; i < 4; i++, at++) {
        if (!is_next("0123456789abcdefABCDEF")) return false;
        *value = *value << 4 | ((*at & 0xfu) + (*at > '9' ? 9 : 0));
    }
    return true;
}

static bool read_escape(struct text *text) {
    static const char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    uint32_t c, low;
    if (is_next(names)) return append(text, (unsigned char)meanings[strchr(names, *at++) - names]), true;
    if (!take('u') || !read_hex(&c)) return false;
    const unsigned char *after = at;
    if (c >= 0xd800 && c < 0xdc00 && take('\\') && take('u') && read_hex(&low) && low >= 0xdc00 && low < 0xe000)
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    else at = after;
    append_character(text, c);
    return true;
}

static bool read_string(struct text *text) {
    text->length = 0;
    text->usable = true;
    if (!take('"')) return false;
    while (!take('"')) {
        if (at == end || *at < 0x20) return false;
        if (!take('\\')) append(text, *at++);
        else if (!read_escape(text)) return false;
    }
    if (text->size) text->at[text->length] = 0;
    return true;
}

static bool skip_value(void) {
    struct text ignored = {0};
    size_t depth = 0;
    do {
        skip_space();
        if (is_next("\"")) {
            if (!read_string(&ignored)) return false;
        } else if (is_next("{[")) at++, depth++;
        else if (depth && is_next("}]")) at++, depth--;
        else if (depth && is_next(",:")) at++;
        else {
            const unsigned char *start = at;
            while (is_next("+-.0123456789Eaeflnrstu")) at++;
            if (at == start) return false;
        }
    } while (depth);
    return true;
}

// False where this is no JSON object. Of a key that stands twice, the last one counts.
static bool scan(struct text *path, struct text *asked) {
    char name[16];
    struct text key = {.at = name, .size = sizeof name};
    skip_space();
    if (!take('{')) return false;
    skip_space();
    if (!is_next("}")) do {
        skip_space();
        if (!read_string(&key)) return false;
        skip_space();
        if (!take(':')) return false;
        skip_space();
        struct text *wanted = !key.usable ? NULL : !strcmp(name, "socket") ? path
                            : !strcmp(name, "cniVersion") ? asked : NULL;
        if (wanted) *wanted->at = 0, wanted->length = 0, wanted->usable = true;
        if (!(wanted && is_next("\"") ? read_string(wanted) : skip_value())) return false;
        skip_space();
    } while (take(','));
    if (!take('}')) return false;
    skip_space();
    return at == end;
}

// Waiting, and the agent

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void wait_for(int fd, short events, const char *object, const char *remedy) {
    struct pollfd poller = {.fd = fd, .events = events};
    do {
        int64_t left = deadline - now_ms();
        if (left <= 0) fail(TRY_LATER, object, "no answer in time", remedy);
        poll(&poller, 1, (int)left);
    } while (!poller.revents);
}

static size_t read_input(char *input) {
    static const char remedy[] = "write the network configuration to it, and close it";
    size_t length = 0;
    for (;;) {
        wait_for(STDIN_FILENO, POLLIN, "standard input", remedy);
        ssize_t got = read(STDIN_FILENO, input + length, INPUT_LIMIT + 1 - length);
        if (got < 0 && errno != EINTR) fail(IO_FAILURE, "standard input", "cannot be read", remedy);
        if (got == 0) return length;
        if (got > 0) length += (size_t)got;
        if (length > INPUT_LIMIT) fail(NOT_JSON, "network configuration", "larger than 1 MiB", "shorten it");
    }
}

// NAME=VALUE and a NUL, for each variable of CNI.
static size_t read_environment(char *out) {
    size_t length = 0;
    for (char **one = environ; *one; one++) {
        size_t size = strlen(*one) + 1;
        if (strncmp(*one, "CNI_", 4)) continue;
        if (length + size > ENVIRONMENT_LIMIT) fail(BAD_ENVIRONMENT, "CNI_ARGS", "larger than 256 KiB", "shorten it");
        memcpy(out + length, *one, size);
        length += size;
    }
    return length;
}

static int reach(const struct sockaddr_un *address, bool patient) {
    int64_t until = now_ms() + (patient ? RETRY_MS : 0);
    for (;; poll(NULL, 0, PAUSE_MS)) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0) fail(IO_FAILURE, address->sun_path, "no socket can be made", "see the limits of this process");
        if (!connect(fd, (const struct sockaddr *)address, sizeof *address)) return fd;
        if (errno != ENOENT && errno != ECONNREFUSED && errno != EAGAIN)
            fail(IO_FAILURE, address->sun_path, "cannot be reached", "check the path, and run as root");
        close(fd);
        if (now_ms() >= until || now_ms() >= deadline)
            fail(patient ? TRY_LATER : UNAVAILABLE, address->sun_path, "no agent listens there", AGENT);
    }
}

// Send or receive all of it; false where the agent has gone away.
static bool transfer(int fd, const char *object, bool sending, char *data, size_t length) {
    while (length) {
        wait_for(fd, sending ? POLLOUT : POLLIN, object, AGENT);
        ssize_t done = sending ? send(fd, data, length, MSG_NOSIGNAL) : recv(fd, data, length, 0);
        if (done == 0 || (done < 0 && errno != EINTR && errno != EAGAIN)) return false;
        if (done > 0) data += done, length -= (size_t)done;
    }
    return true;
}

static void put32(char *out, size_t value) {
    uint32_t raw = htonl((uint32_t)value);
    memcpy(out, &raw, sizeof raw);
}

static uint32_t get32(const char *data) {
    uint32_t raw;
    memcpy(&raw, data, sizeof raw);
    return ntohl(raw);
}

int main(void) {
    static char request[HEADER + ENVIRONMENT_LIMIT + INPUT_LIMIT + 1], answer[ANSWER_LIMIT];
    char asked_version[16] = "", header[HEADER];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct text path = {.at = address.sun_path, .size = sizeof address.sun_path, .usable = true};
    struct text asked = {.at = asked_version, .size = sizeof asked_version, .usable = true};

    const char *command = getenv("CNI_COMMAND"), *limit = getenv("NETFABRIC_CNI_TIMEOUT");
    bool limited = limit && *limit && strlen(limit) <= 3 && strspn(limit, "0123456789") == strlen(limit);
    deadline = now_ms() + (limited ? atoi(limit) * 1000 : TIMEOUT_MS);
    if (!command || !*command)
        fail(BAD_ENVIRONMENT, "CNI_COMMAND", "not set", "this is a CNI plugin: a container engine runs it");

    size_t variables = read_environment(request + HEADER);
    char *input = request + HEADER + variables;
    size_t length = read_input(input);
    at = (unsigned char *)input, end = at + length;
    bool is_object = scan(&path, &asked);
    for (int i = 0; i < VERSION_COUNT; i++)
        if (is_object && asked.usable && !strcmp(asked_version, VERSIONS[i])) version = VERSIONS[i];
    if (!strcmp(command, "VERSION")) answer_version();
    if (!is_object) fail(NOT_JSON, "network configuration", "no JSON object", "write it as the CNI specification says");

    const char *elsewhere = getenv("NETFABRIC_CNI_SOCKET");
    if (!elsewhere || !*elsewhere) elsewhere = DEFAULT_SOCKET;
    if (path.usable && !path.length && (path.usable = strlen(elsewhere) < path.size)) strcpy(path.at, elsewhere);
    if (!path.usable || *path.at != '/')
        fail(BAD_CONFIGURATION, "socket", "no absolute path of at most 107 bytes", "write netplugin's RUN_DIR/cni.sock");

    bool patient = strcmp(command, "STATUS") != 0;
    memcpy(request, MAGIC, 4);
    put32(request + 4, variables);
    put32(request + 8, length);
    for (int losses = 0;; poll(NULL, 0, PAUSE_MS)) {
        int fd = reach(&address, patient);
        if (transfer(fd, path.at, true, request, HEADER + variables + length) &&
            transfer(fd, path.at, false, header, HEADER)) {
            size_t size = get32(header + 8);
            if (memcmp(header, MAGIC, 4) || size > ANSWER_LIMIT)
                fail(IO_FAILURE, path.at, "what listens there is no agent of netfabric", "check the path");
            if (transfer(fd, path.at, false, answer, size)) {
                write_all(answer, size);
                return get32(header + 4) ? 1 : 0;
            }
        }
        close(fd);
        // The agent died meanwhile. Its next start knows what was done, and answers the same request again.
        if (++losses == LOSSES || !patient)
            fail(patient ? TRY_LATER : UNAVAILABLE, path.at, "the agent went away before it answered", AGENT);
    }
}
