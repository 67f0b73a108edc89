// Docker's managed plugin: hands each connection on the plugin's socket to the agent's socket on the host.
//
// proxy PLUGIN_SOCKET AGENT_SOCKET. One child a connection, bytes both ways until both ends are closed. An agent that
// is away is waited for a while: it may be restarting, and Docker waits as long for any plugin.

#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { BACKLOG = 128, CHUNK = 65536 };
enum { PATIENCE_MS = 10000, PAUSE_MS = 100 };

static _Noreturn void die(const char *what) {
    fprintf(stderr, "netfabric proxy: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int address_of(struct sockaddr_un *address, const char *path) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof address->sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address->sun_path, path);
    return 0;
}

static int listen_at(const char *path) {
    struct sockaddr_un address;
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || address_of(&address, path)) die(path);
    unlink(path);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, BACKLOG)) die(path);
    return listener;
}

static int reach(const char *path) {
    struct sockaddr_un address;
    if (address_of(&address, path)) die(path);
    for (int waited = 0;; waited += PAUSE_MS) {
        int agent = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (agent < 0) die("socket");
        if (!connect(agent, (struct sockaddr *)&address, sizeof address)) return agent;
        if (waited >= PATIENCE_MS) die(path);
        close(agent);
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000L}, NULL);
    }
}

// Move what there is from one end to the other; return 0 at its end.
static int pump(int from, int to) {
    char chunk[CHUNK];
    ssize_t length = read(from, chunk, sizeof chunk);
    if (length < 0 && errno == EINTR) return 1;
    if (length <= 0) return shutdown(to, SHUT_WR), 0;
    for (ssize_t done = 0; done < length;) {
        ssize_t part = write(to, chunk + done, (size_t)(length - done));
        if (part < 0 && errno != EINTR) return 0;
        if (part > 0) done += part;
    }
    return 1;
}

static void serve(int docker, int agent) {
    struct pollfd ends[] = {{.fd = docker, .events = POLLIN}, {.fd = agent, .events = POLLIN}};
    while (ends[0].fd >= 0 || ends[1].fd >= 0) {
        if (poll(ends, 2, -1) < 0) {
            if (errno != EINTR) die("poll");
            continue;
        }
        if (ends[0].revents && !pump(docker, agent)) ends[0].fd = -1;
        if (ends[1].revents && !pump(agent, docker)) ends[1].fd = -1;
    }
}

static void leave(int signal) {
    (void)signal;
    _exit(0);
}

int main(int count, char **words) {
    if (count != 3) return fprintf(stderr, "usage: proxy PLUGIN_SOCKET AGENT_SOCKET\n"), 2;
    signal(SIGCHLD, SIG_IGN); // children are not waited for
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, leave); // as process 1 of its container it would not die of it
    int listener = listen_at(words[1]);
    for (;;) {
        int docker = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (docker < 0) {
            if (errno != EINTR && errno != ECONNABORTED) die("accept");
            continue;
        }
        pid_t child = fork();
        if (!child) {
            close(listener);
            serve(docker, reach(words[2]));
            _exit(0);
        }
        if (child < 0) perror("netfabric proxy: fork"); // this connection ends, and Docker tries again
        close(docker);
    }
}
