#include "shout.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

extern const char *words;

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "nobody";

    if (strcmp(name, "--version") == 0) {
        puts(VERSION " in " PLACE);
        return 0;
    }
    printf("%s ", words);
    while (*name)
        putchar(toupper((unsigned char)*name++));
    puts("!");
    return 0;
}
