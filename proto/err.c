/* err: the table of err.h as lookups.
 *
 * Each lookup is a switch that the table generates, so a number given twice does not compile and a
 * new line needs nothing here. Codes come in with either sign, because C code passes failures on as
 * negative numbers and messages carry them as positive ones. A number that is not in the table (a
 * newer peer's, or nonsense) reads as INTERNAL; err_known tells the two apart.
 */
#include "proto/err.h"

/* The positive number of a code of either sign; -INT_MIN does not exist, so no plain negation. */
static unsigned int err_number(int code)
{
    return code < 0 ? 0u - (unsigned int)code : (unsigned int)code;
}

const char *err_name(int code)
{
    switch (err_number(code)) {
    case ERR_OK:
        return "OK";
#define ERR_CASE(name, number, retry, text)                                                        \
    case number:                                                                                   \
        return #name;
        ERR_TABLE(ERR_CASE)
#undef ERR_CASE
    default:
        return err_name(ERR_INTERNAL);
    }
}

const char *err_text(int code)
{
    switch (err_number(code)) {
    case ERR_OK:
        return "ok";
#define ERR_CASE(name, number, retry, text)                                                        \
    case number:                                                                                   \
        return text;
        ERR_TABLE(ERR_CASE)
#undef ERR_CASE
    default:
        return err_text(ERR_INTERNAL);
    }
}

bool err_retryable(int code)
{
    switch (err_number(code)) {
#define ERR_CASE(name, number, retry, text)                                                        \
    case number:                                                                                   \
        return retry;
        ERR_TABLE(ERR_CASE)
#undef ERR_CASE
    default:
        return false;
    }
}

bool err_known(int code)
{
    switch (err_number(code)) {
#define ERR_CASE(name, number, retry, text) case number:
        ERR_TABLE(ERR_CASE)
#undef ERR_CASE
        return true;
    default:
        return false;
    }
}
