// Streams, what may be put on them, and events.
//
// In and out: as the CUDA driver API; the work itself goes to work.c. Who owns: handles are their creator's, until their
// context ends and takes along what is left.
// What fails: a dead handle is INVALID_HANDLE, a context with a sticky error answers with that; capturing graphs is not
// supported.
#include "soft.h"

#include <time.h>

struct wp_event {
  struct wp_handle handle;
  unsigned flags;
  bool recorded;
  struct wp_stream *stream;
  uint64_t until;
  struct timespec at;
};

CUresult wp_stream(CUstream given, struct wp_stream **stream) {
  *stream = given;
  CUcontext context = wp_current();
  // 1 is the legacy stream by name; 2, the per-thread one, is the same here: stricter, never laxer, than a device.
  if ((uintptr_t)given <= 2) {
    CUresult problem;
    if (!wp_adopt(context, &problem)) return problem;
    *stream = &context->null_stream;
    return OK;
  }
  return wp_usable(given, MARK_STREAM);
}

// ---- Streams

static CUresult create(CUstream *stream, unsigned flags, int priority) {
  if (!stream || flags > 1) return INVALID_VALUE;
  CUcontext context = wp_current();
  struct wp_stream *made = wp_handle_new(sizeof *made, MARK_STREAM, STREAMS, context);
  made->flags = flags;
  made->priority = priority;
  wp_stream_ready(made, context);
  pthread_mutex_lock(&wp_lock);
  wp_reap_workers(context);
  made->sibling = context->streams;
  context->streams = made;
  pthread_mutex_unlock(&wp_lock);
  *stream = made;
  return OK;
}

API CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
  ENTER(CURRENT);
  return create(stream, flags, 0);
}

API CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int priority) {
  ENTER(CURRENT);
  return create(stream, flags, priority);
}

API CUresult cuStreamDestroy_v2(CUstream given) {
  ENTER(INIT);
  if ((uintptr_t)given <= 2) return INVALID_HANDLE;
  struct wp_stream *stream;
  TRY(wp_stream(given, &stream));
  pthread_mutex_lock(&wp_lock);
  wp_handle_end(&stream->handle, false);
  stream->closing = true;
  pthread_cond_broadcast(&stream->changed);
  pthread_mutex_unlock(&wp_lock);
  return OK;
}
API CUresult cuStreamDestroy(CUstream stream) __attribute__((alias("cuStreamDestroy_v2")));

API CUresult cuStreamSynchronize(CUstream given) {
  ENTER(INIT);
  struct wp_stream *stream;
  TRY(wp_stream(given, &stream));
  pthread_mutex_lock(&wp_lock);
  if (stream == &stream->handle.context->null_stream) wp_drain(stream->handle.context);
  else wp_wait(stream, stream->submitted);
  pthread_mutex_unlock(&wp_lock);
  return atomic_load(&stream->handle.context->sticky);
}

API CUresult cuStreamQuery(CUstream given) {
  ENTER(INIT);
  struct wp_stream *stream;
  TRY(wp_stream(given, &stream));
  pthread_mutex_lock(&wp_lock);
  bool done = stream->completed == stream->submitted;
  pthread_mutex_unlock(&wp_lock);
  return done ? OK : NOT_READY;
}

API CUresult cuStreamGetCtx(CUstream given, CUcontext *context) {
  ENTER(INIT);
  struct wp_stream *stream;
  if (!context) return INVALID_VALUE;
  TRY(wp_stream(given, &stream));
  *context = stream->handle.context;
  return OK;
}

API CUresult cuStreamGetFlags(CUstream given, unsigned *flags) {
  ENTER(INIT);
  struct wp_stream *stream;
  if (!flags) return INVALID_VALUE;
  TRY(wp_stream(given, &stream));
  *flags = stream->flags;
  return OK;
}

API CUresult cuStreamGetPriority(CUstream given, int *priority) {
  ENTER(INIT);
  struct wp_stream *stream;
  if (!priority) return INVALID_VALUE;
  TRY(wp_stream(given, &stream));
  *priority = stream->priority;
  return OK;
}

API CUresult cuStreamIsCapturing(CUstream given, int *status) {
  ENTER(INIT);
  struct wp_stream *stream;
  if (!status) return INVALID_VALUE;
  TRY(wp_stream(given, &stream));
  *status = 0;
  return OK;
}

API CUresult cuStreamAttachMemAsync(CUstream given, CUdeviceptr at, size_t size, unsigned flags) {
  ENTER(INIT);
  (void)size, (void)flags;
  struct wp_stream *stream;
  TRY(wp_stream(given, &stream));
  enum wp_where where;
  return wp_range("cuStreamAttachMemAsync", at, 1, true, &where);
}

struct callback {
  struct wp_work work;
  void (*function)(void *);
  void (*told)(CUstream, CUresult, void *);
  void *argument;
};

static void call_back(struct wp_work *work) {
  struct callback *callback = (struct callback *)work;
  CUstream stream = work->stream;
  if (callback->function) callback->function(callback->argument);
  else callback->told(stream, atomic_load(&stream->handle.context->sticky), callback->argument);
}

API CUresult cuLaunchHostFunc(CUstream given, void (*function)(void *), void *argument) {
  ENTER(INIT);
  struct wp_stream *stream;
  if (!function) return INVALID_VALUE;
  TRY(wp_stream(given, &stream));
  struct callback *callback = wp_work_new(sizeof *callback, call_back);
  callback->function = function;
  callback->argument = argument;
  return wp_submit(stream, &callback->work, false);
}

API CUresult cuStreamAddCallback(CUstream given, void (*told)(CUstream, CUresult, void *), void *argument, unsigned flags) {
  ENTER(INIT);
  struct wp_stream *stream;
  if (!told || flags) return INVALID_VALUE;
  TRY(wp_stream(given, &stream));
  struct callback *callback = wp_work_new(sizeof *callback, call_back);
  callback->work.always = true;
  callback->told = told;
  callback->argument = argument;
  return wp_submit(stream, &callback->work, false);
}

// ---- Events

API CUresult cuEventCreate(CUevent *event, unsigned flags) {
  ENTER(CURRENT);
  if (!event || flags > 7) return INVALID_VALUE;
  *event = wp_handle_new(sizeof **event, MARK_EVENT, EVENTS, wp_current());
  (*event)->flags = flags;
  return OK;
}

API CUresult cuEventDestroy_v2(CUevent event) {
  ENTER(INIT);
  TRY(wp_usable(event, MARK_EVENT));
  pthread_mutex_lock(&wp_lock);
  wp_handle_end(&event->handle, false);
  pthread_mutex_unlock(&wp_lock);
  return OK;
}
API CUresult cuEventDestroy(CUevent event) __attribute__((alias("cuEventDestroy_v2")));

struct record { struct wp_work work; CUevent event; };

static void pass_event(struct wp_work *work) {
  CUevent event = ((struct record *)work)->event;
  pthread_mutex_lock(&wp_lock);
  // It may have been recorded again since.
  if (event->stream == work->stream && event->until == work->number) clock_gettime(CLOCK_MONOTONIC, &event->at);
  pthread_mutex_unlock(&wp_lock);
}

// Under wp_lock, when the work has its number.
static void note_event(struct wp_work *work) {
  CUevent event = ((struct record *)work)->event;
  event->recorded = true;
  event->stream = work->stream;
  event->until = work->number;
}

static CUresult record_event(CUevent event, CUstream given) {
  struct wp_stream *stream;
  TRY(wp_usable(event, MARK_EVENT));
  TRY(wp_stream(given, &stream));
  if (stream->handle.context != event->handle.context) return INVALID_HANDLE;
  struct record *record = wp_work_new(sizeof *record, pass_event);
  record->work.always = true;
  record->work.numbered = note_event;
  record->event = event;
  return wp_submit(stream, &record->work, false);
}

API CUresult cuEventRecord(CUevent event, CUstream stream) {
  ENTER(INIT);
  return record_event(event, stream);
}

API CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned flags) {
  ENTER(INIT);
  return flags > 1 ? INVALID_VALUE : record_event(event, stream);
}

static bool passed(CUevent event) { return !event->recorded || event->stream->completed >= event->until; }

API CUresult cuEventQuery(CUevent event) {
  ENTER(INIT);
  TRY(wp_usable(event, MARK_EVENT));
  pthread_mutex_lock(&wp_lock);
  bool done = passed(event);
  pthread_mutex_unlock(&wp_lock);
  return done ? OK : NOT_READY;
}

API CUresult cuEventSynchronize(CUevent event) {
  ENTER(INIT);
  TRY(wp_usable(event, MARK_EVENT));
  pthread_mutex_lock(&wp_lock);
  if (event->recorded) wp_wait(event->stream, event->until);
  pthread_mutex_unlock(&wp_lock);
  return atomic_load(&event->handle.context->sticky);
}

API CUresult cuEventElapsedTime(float *milliseconds, CUevent start, CUevent stop) {
  ENTER(INIT);
  if (!milliseconds) return INVALID_VALUE;
  TRY(wp_usable(start, MARK_EVENT));
  TRY(wp_usable(stop, MARK_EVENT));
  pthread_mutex_lock(&wp_lock);
  bool timed = !((start->flags | stop->flags) & 2) && start->recorded && stop->recorded;
  bool done = passed(start) && passed(stop);
  double from = (double)start->at.tv_sec * 1e3 + (double)start->at.tv_nsec / 1e6;
  double to = (double)stop->at.tv_sec * 1e3 + (double)stop->at.tv_nsec / 1e6;
  pthread_mutex_unlock(&wp_lock);
  *milliseconds = (float)(to - from);
  return !timed ? INVALID_HANDLE : done ? OK : NOT_READY;
}
API CUresult cuEventElapsedTime_v2(float *milliseconds, CUevent start, CUevent stop)
  __attribute__((alias("cuEventElapsedTime")));

static void pass(struct wp_work *work) { (void)work; }

API CUresult cuStreamWaitEvent(CUstream given, CUevent event, unsigned flags) {
  ENTER(INIT);
  struct wp_stream *stream;
  if (flags > 1) return INVALID_VALUE;
  TRY(wp_usable(event, MARK_EVENT));
  TRY(wp_stream(given, &stream));
  struct wp_work *work = wp_work_new(sizeof *work, pass);
  pthread_mutex_lock(&wp_lock);
  if (event->recorded) wp_depend(work, event->stream, event->until);
  pthread_mutex_unlock(&wp_lock);
  return wp_submit(stream, work, false);
}
