// What a module says of itself: the version and target of PTX, its kernels and the sizes of their parameters.
//
// In: the image given to cuModuleLoadData. Out: the list of its kernels, or CUDA's code for an image it would refuse.
// The sizes are needed because a launch keeps the values of its parameters, not the addresses they were passed by.
// Who owns: the caller frees the list. What fails: an image that is neither PTX nor a binary for a GPU is INVALID_IMAGE;
// binaries are taken as they are, since nothing can be read from them.
#include "soft.h"
#include "ptx.h"

#include <ctype.h>
#include <stdio.h>

// PTX versions came with CUDA versions, not always one with one.
static int ptx_of_cuda(int version) {
  int major = version / 1000, minor = version % 1000 / 10;
  if (major >= 13) return (major - 4) * 10 + minor;
  if (major == 12) return 80 + (minor >= 6 ? minor - 1 : minor);
  if (major == 11) return 70 + minor;
  return major == 10 ? 63 + minor : 60;
}

// Comments may quote anything, so they become blanks.
static char *without_comments(const char *text) {
  char *copy = strdup(text);
  if (!copy) wp_abort("no memory for a module");
  for (char *at = copy; *at;) {
    const char *ends = !strncmp(at, "//", 2) ? "\n" : !strncmp(at, "/*", 2) ? "*/" : NULL;
    if (!ends) {
      at++;
      continue;
    }
    char *end = strstr(at, ends);
    end = end ? end + strlen(ends) : at + strlen(at);
    memset(at, ' ', (size_t)(end - at));
    at = end;
  }
  return copy;
}

static bool is_name(char c) { return isalnum((unsigned char)c) || c == '_' || c == '$' || c == '%'; }

// ".param .align 8 .b8 name[24]" between `from` and `to`: its size in bytes, 0 if it cannot be told.
static size_t parameter_size(const char *from, const char *to) {
  size_t size = 0;
  for (const char *at = from; at < to; at++) {
    if (*at == '.' && strchr("usbf", at[1]) && isdigit((unsigned char)at[2])) size = (size_t)atoi(at + 2) / 8;
    if (*at == '[' && size) size *= (size_t)atol(at + 1);
  }
  return size;
}

static const char *read_entry(const char *at, struct ptx_kernel *kernel) {
  at += strlen(".entry");
  while (isspace((unsigned char)*at)) at++;
  size_t length = 0;
  while (is_name(at[length])) length++;
  if (!length || length >= sizeof kernel->name) return NULL;
  memcpy(kernel->name, at, length);
  at += length;
  while (isspace((unsigned char)*at)) at++;
  if (*at != '(') return at;   // a kernel without parameters may leave the list out
  const char *end = strchr(at, ')');
  if (!end) return NULL;
  while (at < end) {
    const char *next = memchr(at + 1, ',', (size_t)(end - at - 1));
    if (!next) next = end;
    size_t size = parameter_size(at + 1, next);
    bool blank = strspn(at + 1, " \t\r\n") >= (size_t)(next - at - 1);
    if (!size && !blank) return NULL;
    if (size && kernel->count == PTX_PARAMETERS) return NULL;
    if (size) kernel->sizes[kernel->count++] = size;
    at = next;
  }
  return end;
}

CUresult wp_read_ptx(const void *image, struct ptx_kernel **kernels, size_t *count, char *why, size_t room) {
  static const unsigned char elf[4] = {0x7f, 'E', 'L', 'F'}, fat[4] = {0x50, 0xed, 0x55, 0xba};
  *kernels = NULL;
  *count = 0;
  if (!memcmp(image, elf, 4) || !memcmp(image, fat, 4)) return OK;
  char *text = without_comments(image);
  const char *start = text + strspn(text, " \t\r\n");
  int major, minor, target = 0;
  CUresult result = OK;
  if (sscanf(start, ".version %d.%d", &major, &minor) != 2) {
    snprintf(why, room, "neither PTX nor a binary for a GPU");
    result = INVALID_IMAGE;
  } else if (major * 10 + minor > ptx_of_cuda(wp_settings()->version)) {
    snprintf(why, room, "PTX %d.%d is newer than CUDA %d reads", major, minor, wp_settings()->version);
    result = UNSUPPORTED_PTX_VERSION;
  }
  const char *named = strstr(start, ".target");
  if (!result && named && sscanf(named, ".target sm_%d", &target) == 1 && target > wp_settings()->capability) {
    snprintf(why, room, "made for sm_%d, and this is sm_%d", target, wp_settings()->capability);
    result = NO_BINARY_FOR_GPU;
  }
  for (const char *at = start; !result && (at = strstr(at, ".entry")) != NULL;) {
    *kernels = realloc(*kernels, (*count + 1) * sizeof **kernels);
    if (!*kernels) wp_abort("no memory for a module");
    struct ptx_kernel *kernel = &(*kernels)[*count];
    memset(kernel, 0, sizeof *kernel);
    at = read_entry(at, kernel);
    if (!at) {
      snprintf(why, room, "cannot read the parameters of kernel %zu", *count + 1);
      result = 218;
      break;
    }
    ++*count;
  }
  if (result) {
    free(*kernels);
    *kernels = NULL;
    *count = 0;
  }
  free(text);
  return result;
}
