#include "greet.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *greeting(const char *name)
{
    const char *format = "hello, %s!";
    size_t size = strlen(format) + strlen(name);
    char *text = malloc(size);
    if (text)
        snprintf(text, size, format, name);
    return text;
}
