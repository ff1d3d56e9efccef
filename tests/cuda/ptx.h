// The kernels of a module, as ptx.c reads them and kernels.c keeps them.
//
// In: nothing. Out: one type and one function. Who owns: whoever called frees. What fails: see ptx.c.
#ifndef WATCHPOST_SOFT_PTX_H
#define WATCHPOST_SOFT_PTX_H

#include "soft.h"

enum { PTX_PARAMETERS = 64 };
struct ptx_kernel { char name[256]; size_t count; size_t sizes[PTX_PARAMETERS]; };

CUresult wp_read_ptx(const void *image, struct ptx_kernel **kernels, size_t *count, char *why, size_t room);

#endif
