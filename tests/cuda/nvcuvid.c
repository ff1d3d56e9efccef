// A libnvcuvid.so.1 that loads and decodes nothing: GStreamer's nvcodec plugin registers its CUDA filters only where the
// library of decoders is there, whatever the decoders are.
//
// In: questions about codecs. Out: "no such codec". Who owns: nothing is made. What fails: everything but the question
// what is supported, and locks, which are counted by nobody.
#include <stddef.h>
#include <string.h>

#define API __attribute__((visibility("default")))
enum { NOT_SUPPORTED = 801, INVALID_VALUE = 1 };

// CUVIDDECODECAPS: codec, chroma format and depth are the question, all after them the answer; zero means no.
struct capabilities { int codec, chroma_format; unsigned depth; unsigned reserved[3]; unsigned char answer[64]; };

API int cuvidGetDecoderCaps(struct capabilities *capabilities);
int cuvidGetDecoderCaps(struct capabilities *capabilities) {
  if (!capabilities) return INVALID_VALUE;
  memset(capabilities->answer, 0, sizeof capabilities->answer);
  return 0;
}

#define UNSUPPORTED(name) API int name(void); int name(void) { return NOT_SUPPORTED; }
UNSUPPORTED(cuvidCreateDecoder)
UNSUPPORTED(cuvidDestroyDecoder)
UNSUPPORTED(cuvidDecodePicture)
UNSUPPORTED(cuvidReconfigureDecoder)
UNSUPPORTED(cuvidCreateVideoParser)
UNSUPPORTED(cuvidParseVideoData)
UNSUPPORTED(cuvidDestroyVideoParser)
UNSUPPORTED(cuvidMapVideoFrame)
UNSUPPORTED(cuvidMapVideoFrame64)
UNSUPPORTED(cuvidUnmapVideoFrame)
UNSUPPORTED(cuvidUnmapVideoFrame64)

// A lock that locks nothing is enough where nothing decodes.
API int cuvidCtxLockCreate(void **lock, void *context);
int cuvidCtxLockCreate(void **lock, void *context) {
  if (!lock) return INVALID_VALUE;
  *lock = context;
  return 0;
}
#define ACCEPTED(name) API int name(void); int name(void) { return 0; }
ACCEPTED(cuvidCtxLockDestroy)
ACCEPTED(cuvidCtxLock)
ACCEPTED(cuvidCtxUnlock)
