/* A decoder of Motion JPEG for tests, of the highest rank: it makes grey pictures, and does what a packet tells it to.
 *
 * In: JPEG pictures, some with a comment "watchpost-test:WORD". Out: grey I420 pictures of the same size; or the death
 * of the process, in the way that WORD says. It stands for a real decoder with a bug that one source finds.
 */
#define _GNU_SOURCE
#include <gst/gst.h>
#include <gst/video/gstvideodecoder.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

static const char MARK[] = "watchpost-test:";

typedef struct {
    GstVideoDecoder parent;
} CrashDec;
typedef struct {
    GstVideoDecoderClass parent;
} CrashDecClass;

G_DEFINE_TYPE(CrashDec, crash_dec, GST_TYPE_VIDEO_DECODER)

static GstStaticPadTemplate sink_template =
    GST_STATIC_PAD_TEMPLATE("sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS("image/jpeg"));
static GstStaticPadTemplate src_template =
    GST_STATIC_PAD_TEMPLATE("src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS(GST_VIDEO_CAPS_MAKE("I420")));

/* Where the compiler cannot see it: it takes out what it knows to be wrong. */
static int *volatile nowhere = NULL;

static void write_to_null(void) {
    *nowhere = 1;
}

static void *worker(void *unused) {
    (void)unused;
    write_to_null();
    return NULL;
}

/* A thread that is nobody's, as a driver has for all its clients: it has not what its maker handed down. */
static void *stray(void *unused) {
    (void)unused;
    prctl(PR_SET_TIMERSLACK, 50000UL);
    write_to_null();
    return NULL;
}

static void join(void *(*work)(void *)) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, NULL) == 0)
        pthread_join(thread, NULL);
}

static int deeper(int depth) {
    volatile char room[4096];
    room[0] = (char)depth;
    return deeper(depth + 1) + room[0];
}

static void obey(const guint8 *data, gsize size) {
    const char *word = memmem(data, size, MARK, sizeof MARK - 1);
    if (!word)
        return;
    word += sizeof MARK - 1;
    gsize left = size - (gsize)(word - (const char *)data);
    if (left >= 4 && !memcmp(word, "segv", 4))
        write_to_null();
    if (left >= 6 && !memcmp(word, "thread", 6))
        join(worker);
    if (left >= 5 && !memcmp(word, "stray", 5))
        join(stray);
    if (left >= 5 && !memcmp(word, "abort", 5))
        abort();
    if (left >= 4 && !memcmp(word, "deep", 4))
        deeper(0);
}

static gboolean set_format(GstVideoDecoder *decoder, GstVideoCodecState *state) {
    guint width = (guint)GST_VIDEO_INFO_WIDTH(&state->info), height = (guint)GST_VIDEO_INFO_HEIGHT(&state->info);
    GstVideoCodecState *out =
        gst_video_decoder_set_output_state(decoder, GST_VIDEO_FORMAT_I420, width, height, state);
    gst_video_codec_state_unref(out);
    return TRUE;
}

static GstFlowReturn handle_frame(GstVideoDecoder *decoder, GstVideoCodecFrame *frame) {
    GstMapInfo map;
    if (gst_buffer_map(frame->input_buffer, &map, GST_MAP_READ)) {
        obey(map.data, map.size);
        gst_buffer_unmap(frame->input_buffer, &map);
    }
    GstFlowReturn flow = gst_video_decoder_allocate_output_frame(decoder, frame);
    if (flow != GST_FLOW_OK) {
        gst_video_decoder_drop_frame(decoder, frame);
        return flow;
    }
    gst_buffer_memset(frame->output_buffer, 0, 128, gst_buffer_get_size(frame->output_buffer));
    return gst_video_decoder_finish_frame(decoder, frame);
}

static void crash_dec_class_init(CrashDecClass *class) {
    GstElementClass *element = GST_ELEMENT_CLASS(class);
    gst_element_class_add_static_pad_template(element, &sink_template);
    gst_element_class_add_static_pad_template(element, &src_template);
    gst_element_class_set_static_metadata(element, "Decoder with a bug", "Codec/Decoder/Video/Image",
        "Dies of marked packets", "Watchpost's tests");
    GST_VIDEO_DECODER_CLASS(class)->set_format = set_format;
    GST_VIDEO_DECODER_CLASS(class)->handle_frame = handle_frame;
}

static void crash_dec_init(CrashDec *self) {
    gst_video_decoder_set_packetized(GST_VIDEO_DECODER(self), TRUE);
}

static gboolean plugin_init(GstPlugin *plugin) {
    return gst_element_register(plugin, "crashdec", GST_RANK_PRIMARY + 1000, crash_dec_get_type());
}

#define PACKAGE "watchpost-tests"
GST_PLUGIN_DEFINE(GST_VERSION_MAJOR, GST_VERSION_MINOR, crashdec, "A decoder with a bug, for tests", plugin_init, "1.0",
    "LGPL", PACKAGE, "watchpost")
