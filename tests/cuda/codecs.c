// NVDEC and NVENC for tests: GStreamer elements of the same names, caps and properties, that decode and encode on the CPU
// and have the pictures in CUDA memory. A plugin; GST_PLUGIN_PATH names its folder, and without it there is neither.
//
// In: WATCHPOST_SOFT_NVDEC_FAIL=N: a decoder reports an error in place of its picture N (from 0). WATCHPOST_SOFT_NVENC=N:
// encoders of this process at once, 0 for none that opens; default 64. WATCHPOST_SOFT_NVENC_QUIET=1: why one does not open is
// in GStreamer's log only. WATCHPOST_SOFT_CODEC_CRASH=NAME: that element crashes when it gets to know the format. A packet
// with "watchpost-test:WORD" in it kills the process, as a bug of the driver would: segv and abort in the decoder's thread,
// stray in one that is nobody's, stop when the decoder is stopped. WATCHPOST_SOFT_NVDEC_LOAD=1: so does the plugin when it
// is loaded. Out: nvh264dec, nvh265dec, nvvp9dec, nvh264enc, nvh265enc, nvav1enc, each a bin around a decoder and
// cudaupload, or cudadownload and an encoder; so the driver's books count a copy up for each picture decoded and one down
// for each encoded, two calls each.
// Who owns: pipelines own the elements. What fails: a session that does not open is an error of the element with "Failed to
// open session" in its details; or, quietly, as with GStreamer's own, pictures that are "not negotiated", and a log.
#define _GNU_SOURCE
#include <gst/gst.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

struct codec {
  const char *name, *sink, *src, *inner;
  gboolean encodes;
};

#define SIZES ", width=(int)[48,4096], height=(int)[16,4096]"
#define CUDA(formats) "video/x-raw(memory:CUDAMemory), format=(string)" formats SIZES
#define H264 "video/x-h264, stream-format=(string)byte-stream, alignment=(string)au"
#define H265 "video/x-h265, stream-format=(string)byte-stream, alignment=(string)au"
#define DOWN " ! videoconvert ! video/x-raw,format={NV12,P010_10LE} ! cudaupload name=out"
static const struct codec CODECS[] = {
  {"nvh264dec", H264 ", profile=(string){constrained-baseline,baseline,main,high,constrained-high,progressive-high}" SIZES,
   CUDA("NV12"), "avdec_h264 name=in max-threads=1 output-corrupt=false" DOWN, FALSE},
  {"nvh265dec", H265 ", profile=(string){main,main-10}" SIZES, CUDA("{NV12,P010_10LE}"),
   "avdec_h265 name=in max-threads=1 output-corrupt=false" DOWN, FALSE},
  {"nvvp9dec", "video/x-vp9, alignment=(string)frame, profile=(string){0,2}" SIZES, CUDA("{NV12,P010_10LE}"),
   "vp9dec name=in" DOWN, FALSE},
  {"nvh264enc", CUDA("NV12"), H264, "cudadownload name=in ! x264enc name=out tune=zerolatency speed-preset=ultrafast", TRUE},
  {"nvh265enc", CUDA("{NV12,P010_10LE}"), H265,
   "cudadownload name=in ! videoconvert ! x265enc name=out tune=zerolatency speed-preset=ultrafast", TRUE},
  {"nvav1enc", CUDA("NV12"), "video/x-av1", "cudadownload name=in ! videoconvert ! av1enc name=out cpu-used=8 lag-in-frames=0 usage-profile=realtime", TRUE},
};

typedef struct { GstBin bin; GstElement *inner; gint pictures; gboolean open, dies; guint bitrate, bframes, surfaces; gint gop; } Codec;
typedef struct { GstBinClass parent; const struct codec *codec; } CodecClass;
static GstElementClass *parent_class;
static gint sessions;   // encoders that are open
GST_DEBUG_CATEGORY_STATIC(category);
#define GST_CAT_DEFAULT category

static long number(const char *name, long otherwise) {
  const char *text = getenv(name);
  return text && *text ? atol(text) : otherwise;
}

// ---- Properties: those that are set of the real ones; what bears on the picture goes on to the CPU's encoder.

enum { NONE, DEVICE, BITRATE, GOP, BFRAMES, ZEROLATENCY, HEADERS, SURFACES };

static void get(GObject *object, guint id, GValue *value, GParamSpec *spec) {
  Codec *self = (Codec *)object;
  switch (id) {
    case DEVICE: g_value_set_uint(value, 0); break;
    case BITRATE: g_value_set_uint(value, self->bitrate); break;
    case GOP: g_value_set_int(value, self->gop); break;
    case BFRAMES: g_value_set_uint(value, self->bframes); break;
    case SURFACES: g_value_set_uint(value, self->surfaces); break;
    default: G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
  }
}

static void set(GObject *object, guint id, const GValue *value, GParamSpec *spec) {
  Codec *self = (Codec *)object;
  GstElement *out = self->inner ? gst_bin_get_by_name(GST_BIN(self->inner), "out") : NULL;
  switch (id) {
    case BITRATE:
      self->bitrate = g_value_get_uint(value);
      if (out && g_object_class_find_property(G_OBJECT_GET_CLASS(out), "bitrate")) g_object_set(out, "bitrate", self->bitrate, NULL);
      break;
    case GOP: self->gop = g_value_get_int(value); break;
    case BFRAMES: self->bframes = g_value_get_uint(value); break;
    case SURFACES: self->surfaces = g_value_get_uint(value); break;
    case ZEROLATENCY: case HEADERS: break;
    default: G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
  }
  if (out) gst_object_unref(out);
}

// ---- What fails

static GstPadProbeReturn decoded(GstPad *pad, GstPadProbeInfo *info, gpointer data) {
  (void)pad, (void)info;
  Codec *self = data;
  long limit = number("WATCHPOST_SOFT_NVDEC_FAIL", -1);
  if (limit < 0 || self->pictures++ < limit) return GST_PAD_PROBE_OK;
  if (self->pictures == limit + 1) GST_ELEMENT_ERROR(self, STREAM, DECODE, (NULL), ("Failed to decode picture"));
  return GST_PAD_PROBE_DROP;
}

// Where the compiler cannot see it: it takes out what it knows to be wrong.
static int *volatile nowhere = NULL;

// A thread of the driver's own, started before any stream.
static void *stray(void *unused) {
  prctl(PR_SET_TIMERSLACK, 50000UL);
  *nowhere = 1;
  return unused;
}

static const char MARK[] = "watchpost-test:";

static GstPadProbeReturn obey(GstPad *pad, GstPadProbeInfo *info, gpointer data) {
  (void)pad;
  Codec *self = data;
  GstMapInfo map;
  GstBuffer *packet = GST_PAD_PROBE_INFO_BUFFER(info);
  if (!gst_buffer_map(packet, &map, GST_MAP_READ)) return GST_PAD_PROBE_OK;
  const char *end = (const char *)map.data + map.size, *word = memmem(map.data, map.size, MARK, sizeof MARK - 1);
  if (word && end - (word += sizeof MARK - 1) >= 5) {
    if (!memcmp(word, "segv", 4)) *nowhere = 1;
    if (!memcmp(word, "abort", 5)) abort();
    pthread_t thread;
    if (!memcmp(word, "stray", 5) && !pthread_create(&thread, NULL, stray, NULL)) pthread_join(thread, NULL);
    if (!memcmp(word, "stop", 4)) self->dies = TRUE;
  }
  gst_buffer_unmap(packet, &map);
  return GST_PAD_PROBE_OK;
}

// A session is opened when the format is known.
static GstPadProbeReturn format(GstPad *pad, GstPadProbeInfo *info, gpointer data) {
  (void)pad;
  Codec *self = data;
  if (GST_EVENT_TYPE(GST_PAD_PROBE_INFO_EVENT(info)) != GST_EVENT_CAPS) return GST_PAD_PROBE_OK;
  const struct codec *codec = ((CodecClass *)G_OBJECT_GET_CLASS(self))->codec;
  const char *crash = getenv("WATCHPOST_SOFT_CODEC_CRASH");
  // A signal that is only sent is swallowed once by whoever looks for a stack's end.
  if (crash && !strcmp(crash, codec->name)) *(volatile int *)NULL = 0;
  if (!codec->encodes || self->open) return GST_PAD_PROBE_OK;
  if (g_atomic_int_add(&sessions, 1) >= number("WATCHPOST_SOFT_NVENC", 64)) {
    g_atomic_int_add(&sessions, -1);
    if (number("WATCHPOST_SOFT_NVENC_QUIET", 0)) {
      GST_ERROR_OBJECT(self, "Failed to open session, status: NV_ENC_ERR_OUT_OF_MEMORY (10)");
      GST_ERROR_OBJECT(self, "Failed to open session");
      return GST_PAD_PROBE_DROP;
    }
    GST_ELEMENT_ERROR(self, STREAM, ENCODE, (NULL), ("Failed to open session: out of memory (10)"));
    return GST_PAD_PROBE_DROP;
  }
  self->open = TRUE;
  return GST_PAD_PROBE_OK;
}

static GstStateChangeReturn change(GstElement *element, GstStateChange transition) {
  Codec *self = (Codec *)element;
  if (transition == GST_STATE_CHANGE_PAUSED_TO_READY && self->dies) *nowhere = 1;
  GstStateChangeReturn result = parent_class->change_state(element, transition);
  if (transition == GST_STATE_CHANGE_PAUSED_TO_READY) {
    self->pictures = 0;
    if (self->open) g_atomic_int_add(&sessions, -1);
    self->open = FALSE;
  }
  return result;
}

// ---- The element

static void ghost(Codec *self, const char *inside, const char *name) {
  GstElement *element = gst_bin_get_by_name(GST_BIN(self->inner), inside);
  GstPad *target = gst_element_get_static_pad(element, name);
  GstPad *through = gst_ghost_pad_new(name, target);
  gst_pad_set_active(through, TRUE);
  gst_element_add_pad(self->inner, through);
  GstPadTemplate *templ = gst_element_class_get_pad_template(GST_ELEMENT_GET_CLASS(self), name);
  GstPad *pad = gst_ghost_pad_new_from_template(name, through, templ);
  gst_element_add_pad(GST_ELEMENT(self), pad);
  const struct codec *codec = ((CodecClass *)G_OBJECT_GET_CLASS(self))->codec;
  if (!codec->encodes && !strcmp(name, "src")) gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, decoded, self, NULL);
  // Behind whoever watches what goes into the element.
  if (!codec->encodes && !strcmp(name, "sink")) gst_pad_add_probe(target, GST_PAD_PROBE_TYPE_BUFFER, obey, self, NULL);
  if (!strcmp(name, "sink")) gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM, format, self, NULL);
  gst_object_unref(target);
  gst_object_unref(element);
}

static void init(GTypeInstance *instance, gpointer class) {
  Codec *self = (Codec *)instance;
  GError *error = NULL;
  // An encoder that GStreamer lacks leaves an element without pads, which nobody can link.
  self->inner = gst_parse_bin_from_description(((CodecClass *)class)->codec->inner, FALSE, &error);
  g_clear_error(&error);
  if (!self->inner) return;
  gst_bin_add(GST_BIN(self), self->inner);
  ghost(self, "in", "sink");
  ghost(self, "out", "src");
}

static void template(GstElementClass *class, const char *name, GstPadDirection direction, const char *text) {
  GstCaps *caps = gst_caps_from_string(text);
  gst_element_class_add_pad_template(class, gst_pad_template_new(name, direction, GST_PAD_ALWAYS, caps));
  gst_caps_unref(caps);
}

static void class_init(gpointer class, gpointer data) {
  const struct codec *codec = data;
  ((CodecClass *)class)->codec = codec;
  parent_class = g_type_class_peek_parent(class);
  GST_ELEMENT_CLASS(class)->change_state = change;
  GObjectClass *object = G_OBJECT_CLASS(class);
  object->get_property = get;
  object->set_property = set;
  const GParamFlags both = G_PARAM_READWRITE, write = G_PARAM_WRITABLE;
  g_object_class_install_property(object, DEVICE, g_param_spec_uint("cuda-device-id", NULL, NULL, 0, G_MAXINT, 0, G_PARAM_READABLE));
  if (codec->encodes) {
    g_object_class_install_property(object, BITRATE, g_param_spec_uint("bitrate", NULL, NULL, 0, 2000 * 1024, 0, both));
    g_object_class_install_property(object, GOP, g_param_spec_int("gop-size", NULL, NULL, -1, G_MAXINT, 30, both));
    g_object_class_install_property(object, BFRAMES, g_param_spec_uint("bframes", NULL, NULL, 0, 4, 0, both));
    g_object_class_install_property(object, ZEROLATENCY, g_param_spec_boolean("zerolatency", NULL, NULL, FALSE, write));
    g_object_class_install_property(object, HEADERS, g_param_spec_boolean("repeat-sequence-header", NULL, NULL, FALSE, write));
  } else {
    g_object_class_install_property(object, SURFACES, g_param_spec_uint("num-output-surfaces", NULL, NULL, 0, 64, 0, both));
  }
  gst_element_class_set_static_metadata(GST_ELEMENT_CLASS(class), codec->name,
    codec->encodes ? "Codec/Encoder/Video/Hardware" : "Codec/Decoder/Video/Hardware", "Stands for NVIDIA's in tests", "Watchpost");
  template(GST_ELEMENT_CLASS(class), "sink", GST_PAD_SINK, codec->sink);
  template(GST_ELEMENT_CLASS(class), "src", GST_PAD_SRC, codec->src);
}

static gboolean plugin_init(GstPlugin *plugin) {
  if (number("WATCHPOST_SOFT_NVDEC_LOAD", 0)) *nowhere = 1;
  GST_DEBUG_CATEGORY_INIT(category, "nvencoder", 0, "stands for NVENC's");
  for (size_t i = 0; i < G_N_ELEMENTS(CODECS); i++) {
    const GTypeInfo info = {
      .class_size = sizeof(CodecClass), .class_init = class_init, .class_data = &CODECS[i],
      .instance_size = sizeof(Codec), .instance_init = init,
    };
    char *name = g_strdup_printf("Soft_%s", CODECS[i].name);
    GType type = g_type_register_static(GST_TYPE_BIN, name, &info, 0);
    g_free(name);
    if (!gst_element_register(plugin, CODECS[i].name, GST_RANK_PRIMARY, type)) return FALSE;
  }
  return TRUE;
}

#define PACKAGE "watchpost-tests"
GST_PLUGIN_DEFINE(GST_VERSION_MAJOR, GST_VERSION_MINOR, softcodecs, "NVDEC and NVENC for tests", plugin_init, "1.0",
                  "LGPL", "watchpost", "watchpost")
