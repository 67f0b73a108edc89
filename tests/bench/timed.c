// Stands where an engine looks for a CNI plugin: runs the real one, NAME.real, and adds a line to NAME.times: the
// command, and how many milliseconds it took. In C, so that it costs both plugins that are compared next to nothing.

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec * 1e3 + (double)at.tv_nsec / 1e6;
}

int main(int argc, char **argv) {
    char path[4096], line[256];
    double start = now();
    pid_t child;
    int status;
    (void)argc;
    snprintf(path, sizeof path, "%s.real", argv[0]);
    if (posix_spawn(&child, path, NULL, NULL, argv, environ) || waitpid(child, &status, 0) != child) return 1;
    const char *command = getenv("CNI_COMMAND");
    int length = snprintf(line, sizeof line, "%s %.3f\n", command ? command : "none", now() - start);
    snprintf(path, sizeof path, "%s.times", argv[0]);
    int file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0 || write(file, line, (size_t)length) != length) return 1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
