const char *words = WORDS;
