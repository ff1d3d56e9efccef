// A libnvidia-encode.so.1 that gives sessions and encodes nothing: GStreamer's nvcodec asks it and lists no encoder, as with
// a GPU that has no NVENC; those of codecs.c need no library. It lies in a folder of its own, for LD_LIBRARY_PATH.
//
// In: WATCHPOST_SOFT_NVENC=N: sessions of this process at once, default 64, the further ones are refused as a driver does;
// WATCHPOST_SOFT_NVENC_STATUS=N: every session is refused with this status; WATCHPOST_SOFT_NVENC_VERSION=M.N: the version
// of the interface, default 12.0. Out: sessions. Who owns: whoever opened one. What fails: everything but opening a session,
// giving it back, and the question what it encodes, which is nothing.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define API __attribute__((visibility("default")))
enum { SUCCESS = 0, INVALID_PTR = 6, INVALID_CALL = 9, OUT_OF_MEMORY = 10, INVALID_VERSION = 15, UNIMPLEMENTED = 22 };
enum { GUID_COUNT = 1, GUIDS = 4, DESTROY = 27, OPEN = 29, FUNCTIONS = 41 };

struct list { uint32_t version, reserved; void *functions[318]; };
struct session { uint32_t version, device_type; void *device, *reserved; uint32_t api; };

static int sessions;
static char handles[256];

static long number(const char *name, long otherwise) {
  const char *text = getenv(name);
  return text && *text ? atol(text) : otherwise;
}

static uint32_t version(void) {
  unsigned major = 12, minor = 0;
  const char *text = getenv("WATCHPOST_SOFT_NVENC_VERSION");
  if (text) sscanf(text, "%u.%u", &major, &minor);
  return major << 4 | minor;
}

// Whether a struct is of a version that this library has.
static int known(uint32_t given, unsigned number) {
  uint32_t packed = (given & 0xff) << 4 | (given >> 24 & 0xf);
  return given >> 28 == 7 && (given >> 16 & 0xff) == number && packed <= version();
}

static uint32_t unimplemented(void) { return UNIMPLEMENTED; }

static uint32_t open_session(struct session *session, void **encoder) {
  if (!session || !encoder) return INVALID_PTR;
  *encoder = NULL;
  if (!known(session->version, 1)) return INVALID_VERSION;
  if (session->device_type != 1 || !session->device) return INVALID_CALL;
  long status = number("WATCHPOST_SOFT_NVENC_STATUS", SUCCESS);
  if (status) return (uint32_t)status;
  long limit = number("WATCHPOST_SOFT_NVENC", 64);
  if (__atomic_load_n(&sessions, __ATOMIC_SEQ_CST) >= limit) return OUT_OF_MEMORY;
  *encoder = &handles[__atomic_fetch_add(&sessions, 1, __ATOMIC_SEQ_CST) % (int)sizeof handles];
  return SUCCESS;
}

static uint32_t destroy(void *encoder) {
  if (!encoder) return INVALID_PTR;
  __atomic_fetch_sub(&sessions, 1, __ATOMIC_SEQ_CST);
  return SUCCESS;
}

static uint32_t guid_count(void *encoder, uint32_t *count) {
  if (!encoder || !count) return INVALID_PTR;
  *count = 0;
  return SUCCESS;
}

static uint32_t guids(void *encoder, void *array, uint32_t size, uint32_t *count) {
  (void)array, (void)size;
  return guid_count(encoder, count);
}

API uint32_t NvEncodeAPIGetMaxSupportedVersion(uint32_t *packed);
uint32_t NvEncodeAPIGetMaxSupportedVersion(uint32_t *packed) {
  if (!packed) return INVALID_PTR;
  *packed = version();
  return SUCCESS;
}

API uint32_t NvEncodeAPICreateInstance(struct list *list);
uint32_t NvEncodeAPICreateInstance(struct list *list) {
  if (!list) return INVALID_PTR;
  if (!known(list->version, 2)) return INVALID_VERSION;
  for (int i = 0; i < FUNCTIONS; i++) list->functions[i] = (void *)unimplemented;
  list->functions[GUID_COUNT] = (void *)guid_count;
  list->functions[GUIDS] = (void *)guids;
  list->functions[DESTROY] = (void *)destroy;
  list->functions[OPEN] = (void *)open_session;
  return SUCCESS;
}
