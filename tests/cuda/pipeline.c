// Runs one GStreamer pipeline to its end: what gst-launch-1.0 does, without wanting its package.
//
// In: the description of a pipeline, in one argument. Out: exit status 0 at the end of the stream.
// Who owns: the pipeline is torn down before the exit, so that the driver's books must balance then.
// What fails: an error of the pipeline or no end within a minute is said, status 1.
#include <gst/gst.h>

int main(int count, char **words) {
  gst_init(&count, &words);
  GError *error = NULL;
  GstElement *pipeline = count == 2 ? gst_parse_launch(words[1], &error) : NULL;
  if (!pipeline || error) {
    g_printerr("pipeline: %s\n", error ? error->message : "usage: pipeline DESCRIPTION");
    return 1;
  }
  gst_element_set_state(pipeline, GST_STATE_PLAYING);
  GstBus *bus = gst_element_get_bus(pipeline);
  GstMessage *message = gst_bus_timed_pop_filtered(bus, 60 * GST_SECOND, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
  gboolean ended = message && GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS;
  if (message && !ended) {
    gchar *detail = NULL;
    gst_message_parse_error(message, &error, &detail);
    g_printerr("pipeline: %s (%s)\n", error->message, detail ? detail : "");
    g_error_free(error);
    g_free(detail);
  } else if (!message) {
    g_printerr("pipeline: no end within a minute\n");
  }
  if (message) gst_message_unref(message);
  gst_element_set_state(pipeline, GST_STATE_NULL);
  gst_object_unref(bus);
  gst_object_unref(pipeline);
  return ended ? 0 : 1;
}
