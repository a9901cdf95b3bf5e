/* What to say to somebody. The caller frees the result. */
char *greeting(const char *name);
