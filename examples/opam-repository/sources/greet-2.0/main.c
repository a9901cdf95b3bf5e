#include "greet.h"
#include <stdio.h>

#ifndef COLOR
#define COLOR "", ""
#endif

int main(int argc, char **argv)
{
    const char *around[] = {COLOR};
    printf("%s%s%s\n", around[0], greeting(argc > 1 ? argv[1] : "nobody"), around[1]);
    return 0;
}
