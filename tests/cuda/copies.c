// Copies and fills: of one and two dimensions, at once and on a stream.
//
// In: addresses, sizes and pitches. Out: the bytes moved, and counted by where they really lie, whatever the function's
// name says: a copy to pinned memory crosses the bus, a copy between two pinned buffers does not.
// When the caller goes on is as on a device: pageable memory is read before an asynchronous copy returns, and written
// before one returns; pinned memory is neither. Copies within the device and fills return at once in all forms.
// Who owns: the caller owns both ends until the work is done.
// What fails: a range that leaves its block, or a block freed by then, is said and refused, at the call or when it runs.
#include "soft.h"

#include <stdio.h>

struct area { uintptr_t at; size_t pitch; };
struct copy {
  struct wp_work work;
  const char *by;
  struct area from, to;
  size_t width, height;
  unsigned char staged[];   // what pageable memory held when the copy was asked for
};

static size_t span(struct area area, size_t width, size_t height) { return area.pitch * (height - 1) + width; }

// Where the bytes are by now. Memory that was freed between the call and now: a device would fault, or worse, not.
static char *bytes(struct wp_work *work, const char *by, uintptr_t at) {
  char name[120];
  char *found = wp_bytes(at, name, sizeof name);
  if (found) return found;
  wp_misuse("%s: %s was freed before this ran", by, name);
  wp_sicken(work->stream->handle.context, ILLEGAL_ADDRESS);
  return NULL;
}

static void move(struct wp_work *work) {
  struct copy *copy = (struct copy *)work;
  const char *from = bytes(work, copy->by, copy->from.at);
  char *to = bytes(work, copy->by, copy->to.at);
  for (size_t row = 0; from && to && row < copy->height; row++) {
    memmove(to + row * copy->to.pitch, from + row * copy->from.pitch, copy->width);
  }
}

enum end { HOST_END, DEVICE_END, ANY_END };

static CUresult copy(const char *by, struct area to, enum end to_end, struct area from, enum end from_end, size_t width,
                     size_t height, CUstream given, bool async) {
  struct wp_stream *stream;
  enum wp_where source, target;
  TRY(wp_stream(given, &stream));
  if (!width || !height) return OK;
  if (!to.at || !from.at || (height > 1 && (to.pitch < width || from.pitch < width))) return INVALID_VALUE;
  TRY(wp_range(by, from.at, span(from, width, height), from_end == DEVICE_END, &source));
  TRY(wp_range(by, to.at, span(to, width, height), to_end == DEVICE_END, &target));
  if ((from_end == HOST_END && source == DEVICE) || (to_end == HOST_END && target == DEVICE)) {
    wp_misuse("%s: what is given as host memory is the device's", by);
    return INVALID_VALUE;
  }
  bool stage = async && wp_settings()->async && source == PAGEABLE;
  struct copy *copy = wp_work_new(sizeof *copy + (stage ? width * height : 0), move);
  copy->by = by;
  copy->from = from;
  copy->to = to;
  copy->width = width;
  copy->height = height;
  if (stage) {
    for (size_t row = 0; row < height; row++) {
      memcpy(copy->staged + row * width, (const char *)from.at + row * from.pitch, width);
    }
    copy->from = (struct area){(uintptr_t)copy->staged, width};
  }
  pthread_mutex_lock(&wp_lock);
  wp_copied(wp_on_device(source) ? (wp_on_device(target) ? DEVICE_TO_DEVICE : DEVICE_TO_HOST)
                              : (wp_on_device(target) ? HOST_TO_DEVICE : HOST_TO_HOST), width * height);
  pthread_mutex_unlock(&wp_lock);
  bool inside = wp_on_device(source) && wp_on_device(target);
  return wp_submit(stream, &copy->work, async ? target == PAGEABLE : !inside);
}

static CUresult line(const char *by, uintptr_t to, enum end to_end, uintptr_t from, enum end from_end, size_t size,
                     CUstream stream, bool async) {
  return copy(by, (struct area){to, size}, to_end, (struct area){from, size}, from_end, size, 1, stream, async);
}

API CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t size) {
  ENTER(CURRENT);
  return line(__func__, to, ANY_END, from, ANY_END, size, NULL, false);
}

API CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream) {
  ENTER(CURRENT);
  return line(__func__, to, ANY_END, from, ANY_END, size, stream, true);
}

API CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t size) {
  ENTER(CURRENT);
  return line(__func__, to, DEVICE_END, (uintptr_t)from, HOST_END, size, NULL, false);
}

API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t size, CUstream stream) {
  ENTER(CURRENT);
  return line(__func__, to, DEVICE_END, (uintptr_t)from, HOST_END, size, stream, true);
}

API CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t size) {
  ENTER(CURRENT);
  return line(__func__, (uintptr_t)to, HOST_END, from, DEVICE_END, size, NULL, false);
}

API CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t size, CUstream stream) {
  ENTER(CURRENT);
  return line(__func__, (uintptr_t)to, HOST_END, from, DEVICE_END, size, stream, true);
}

API CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t size) {
  ENTER(CURRENT);
  return line(__func__, to, DEVICE_END, from, DEVICE_END, size, NULL, false);
}

API CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream) {
  ENTER(CURRENT);
  return line(__func__, to, DEVICE_END, from, DEVICE_END, size, stream, true);
}

API CUresult cuMemcpyPeer(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context, size_t size) {
  ENTER(CURRENT);
  CUresult problem;
  if (!wp_adopt(to_context, &problem) || !wp_adopt(from_context, &problem)) return problem;
  return line(__func__, to, DEVICE_END, from, DEVICE_END, size, NULL, false);
}

API CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                               size_t size, CUstream stream) {
  ENTER(CURRENT);
  CUresult problem;
  if (!wp_adopt(to_context, &problem) || !wp_adopt(from_context, &problem)) return problem;
  return line(__func__, to, DEVICE_END, from, DEVICE_END, size, stream, true);
}

// ---- Two dimensions, as CUDA_MEMCPY2D lays them out

struct side { size_t x, y; int type; const void *host; CUdeviceptr device; void *array; size_t pitch; };
struct copy_2d { struct side from, to; size_t width, height; };
_Static_assert(sizeof(struct copy_2d) == 128, "as in the header of CUDA");

static CUresult resolve(const struct side *side, size_t width, struct area *area, enum end *end) {
  switch (side->type) {
    case 1: area->at = (uintptr_t)side->host; *end = HOST_END; break;
    case 2: area->at = side->device; *end = DEVICE_END; break;
    case 4: area->at = side->device; *end = ANY_END; break;
    default: return side->type == 3 ? NOT_SUPPORTED : INVALID_VALUE;   // 3: arrays
  }
  if (!area->at) return INVALID_VALUE;
  area->pitch = side->pitch ? side->pitch : width;
  if (side->x + width > area->pitch) return INVALID_VALUE;
  area->at += side->y * area->pitch + side->x;
  return OK;
}

static CUresult copy_2d(const char *by, const struct copy_2d *given, CUstream stream, bool async) {
  struct area from, to;
  enum end from_end, to_end;
  if (!given) return INVALID_VALUE;
  if (!given->width || !given->height) return OK;
  TRY(resolve(&given->from, given->width, &from, &from_end));
  TRY(resolve(&given->to, given->width, &to, &to_end));
  return copy(by, to, to_end, from, from_end, given->width, given->height, stream, async);
}

API CUresult cuMemcpy2D_v2(const struct copy_2d *given) {
  ENTER(CURRENT);
  return copy_2d(__func__, given, NULL, false);
}
API CUresult cuMemcpy2DUnaligned_v2(const struct copy_2d *given) __attribute__((alias("cuMemcpy2D_v2")));

API CUresult cuMemcpy2DAsync_v2(const struct copy_2d *given, CUstream stream) {
  ENTER(CURRENT);
  return copy_2d(__func__, given, stream, true);
}

// ---- Fills

struct fill {
  struct wp_work work;
  const char *by;
  struct area to;
  uint32_t value;
  size_t unit, width, height;   // width in units
};

static void paint(struct wp_work *work) {
  struct fill *fill = (struct fill *)work;
  char *to = bytes(work, fill->by, fill->to.at);
  for (size_t row = 0; to && row < fill->height; row++) {
    char *line = to + row * fill->to.pitch;
    if (fill->unit == 1) memset(line, (int)fill->value, fill->width);
    else for (size_t i = 0; i < fill->width; i++) memcpy(line + i * fill->unit, &fill->value, fill->unit);
  }
}

static CUresult fill(const char *by, CUdeviceptr at, size_t pitch, uint32_t value, size_t unit, size_t width,
                     size_t height, CUstream given, bool async) {
  struct wp_stream *stream;
  enum wp_where where;
  TRY(wp_stream(given, &stream));
  if (!width || !height) return OK;
  if (at % unit || (height > 1 && pitch < width * unit)) return INVALID_VALUE;
  TRY(wp_range(by, at, pitch * (height - 1) + width * unit, true, &where));
  struct fill *fill = wp_work_new(sizeof *fill, paint);
  fill->by = by;
  fill->to = (struct area){at, pitch};
  fill->value = value;
  fill->unit = unit;
  fill->width = width;
  fill->height = height;
  return wp_submit(stream, &fill->work, !async && !wp_on_device(where));
}

#define FILLS(bits, type)                                                                                          \
  API CUresult cuMemsetD##bits##_v2(CUdeviceptr at, type value, size_t count) {                                    \
    ENTER(CURRENT);                                                                                                \
    return fill(__func__, at, 0, value, bits / 8, count, 1, NULL, false);                                          \
  }                                                                                                                \
  API CUresult cuMemsetD##bits##Async(CUdeviceptr at, type value, size_t count, CUstream stream) {                 \
    ENTER(CURRENT);                                                                                                \
    return fill(__func__, at, 0, value, bits / 8, count, 1, stream, true);                                         \
  }                                                                                                                \
  API CUresult cuMemsetD2D##bits##_v2(CUdeviceptr at, size_t pitch, type value, size_t width, size_t height) {     \
    ENTER(CURRENT);                                                                                                \
    return fill(__func__, at, pitch, value, bits / 8, width, height, NULL, false);                                 \
  }                                                                                                                \
  API CUresult cuMemsetD2D##bits##Async(CUdeviceptr at, size_t pitch, type value, size_t width, size_t height,     \
                                        CUstream stream) {                                                         \
    ENTER(CURRENT);                                                                                                \
    return fill(__func__, at, pitch, value, bits / 8, width, height, stream, true);                                \
  }
FILLS(8, unsigned char)
FILLS(16, unsigned short)
FILLS(32, unsigned)
