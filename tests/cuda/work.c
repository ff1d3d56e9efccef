// Work in order: on the calling thread at once, or on a worker for each stream.
//
// In: work from copies.c, kernels.c and streams.c. Out: work run in the order of its stream, after what it depends on.
// Every piece of work has a number in its stream and is done when `completed` has reached it; an event is a stream and a
// number; waiting, in whatever guise, is waiting for a number. So both modes are the same code but for who runs it.
// With WATCHPOST_SOFT_ASYNC=1 a worker dawdles before each piece of work while nobody waits for its stream (for
// WATCHPOST_SOFT_DELAY_US): whoever forgets to wait reads what was there before, and not only under load.
// Who owns: a stream's worker belongs to its context, which joins it at its end; a destroyed stream finishes its work.
// What fails: on a context with a sticky error work is not run any more, but counts as done, so that nobody hangs.
#include "soft.h"

#include <time.h>

void *wp_work_new(size_t size, void (*run)(struct wp_work *)) {
  struct wp_work *work = calloc(1, size);
  if (!work) wp_abort("no memory for work");
  work->run = run;
  return work;
}

void wp_depend(struct wp_work *work, struct wp_stream *stream, uint64_t until) {
  if (stream->completed >= until) return;
  work->on = realloc(work->on, (work->dependencies + 1) * sizeof *work->on);
  if (!work->on) wp_abort("no memory for work");
  work->on[work->dependencies++] = (struct wp_dependency){stream, until};
}

void wp_wait(struct wp_stream *stream, uint64_t until) {
  if (stream->completed >= until) return;
  stream->waiters++;
  pthread_cond_broadcast(&stream->changed);
  while (stream->completed < until) pthread_cond_wait(&stream->changed, &wp_lock);
  stream->waiters--;
}

// Under wp_lock, which it gives up while the work runs.
static void execute(struct wp_work *work) {
  struct wp_stream *stream = work->stream;
  while (stream->completed + 1 < work->number) pthread_cond_wait(&stream->changed, &wp_lock);
  for (size_t i = 0; i < work->dependencies; i++) wp_wait(work->on[i].stream, work->on[i].until);
  pthread_mutex_unlock(&wp_lock);
  if (work->always || !atomic_load(&stream->handle.context->sticky)) work->run(work);
  pthread_mutex_lock(&wp_lock);
  stream->completed = work->number;
  pthread_cond_broadcast(&stream->changed);
  free(work->on);
  free(work);
}

static void dawdle(struct wp_stream *stream) {
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  long nanoseconds = until.tv_nsec + wp_settings()->delay_us % 1000000 * 1000;
  until.tv_sec += wp_settings()->delay_us / 1000000 + nanoseconds / 1000000000;
  until.tv_nsec = nanoseconds % 1000000000;
  while (!stream->waiters && !stream->closing) {
    if (pthread_cond_timedwait(&stream->changed, &wp_lock, &until)) return;
  }
}

static void *work_off(void *given) {
  struct wp_stream *stream = given;
  pthread_mutex_lock(&wp_lock);
  for (;;) {
    while (!stream->first && !stream->closing) pthread_cond_wait(&stream->changed, &wp_lock);
    if (!stream->first) break;
    dawdle(stream);
    struct wp_work *work = stream->first;
    stream->first = work->next;
    if (!stream->first) stream->last = &stream->first;
    execute(work);
  }
  stream->finished = true;
  pthread_mutex_unlock(&wp_lock);
  return NULL;
}

// The legacy default stream waits for every blocking stream of its context, and they wait for it.
static void depend_on_legacy(struct wp_stream *stream, struct wp_work *work) {
  CUcontext context = stream->handle.context;
  if (stream != &context->null_stream) {
    if (!(stream->flags & 1)) wp_depend(work, &context->null_stream, context->null_stream.submitted);
    return;
  }
  for (struct wp_stream *other = context->streams; other; other = other->sibling) {
    if (!(other->flags & 1)) wp_depend(work, other, other->submitted);
  }
}

CUresult wp_submit(CUstream stream, struct wp_work *work, bool wait) {
  CUcontext context = stream->handle.context;
  pthread_mutex_lock(&wp_lock);
  if (!context->alive || stream->closing) {
    pthread_mutex_unlock(&wp_lock);
    free(work->on);
    free(work);
    return CONTEXT_IS_DESTROYED;
  }
  work->stream = stream;
  depend_on_legacy(stream, work);
  work->number = ++stream->submitted;
  if (work->numbered) work->numbered(work);
  if (wp_settings()->async) {
    uint64_t number = work->number;
    *stream->last = work;
    stream->last = &work->next;
    if (!stream->started) {
      if (pthread_create(&stream->worker, NULL, work_off, stream)) wp_abort("no thread for a stream");
      stream->started = true;
    }
    pthread_cond_broadcast(&stream->changed);
    if (wait) wp_wait(stream, number);
  } else {
    execute(work);
    wait = true;
  }
  pthread_mutex_unlock(&wp_lock);
  return wait ? atomic_load(&context->sticky) : OK;
}

void wp_stream_ready(struct wp_stream *stream, CUcontext context) {
  stream->handle.context = context;
  if (!stream->last) {
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&stream->changed, &clock);
    pthread_condattr_destroy(&clock);
    stream->last = &stream->first;
  }
  stream->started = stream->closing = stream->finished = false;
}

void wp_drain(CUcontext context) {
  wp_wait(&context->null_stream, context->null_stream.submitted);
  for (struct wp_stream *stream = context->streams; stream; stream = stream->sibling) {
    wp_wait(stream, stream->submitted);
  }
  wp_wait(&context->null_stream, context->null_stream.submitted);
}

static void stop(struct wp_stream *stream) {
  pthread_mutex_lock(&wp_lock);
  stream->closing = true;
  pthread_cond_broadcast(&stream->changed);
  pthread_mutex_unlock(&wp_lock);
  if (stream->started) pthread_join(stream->worker, NULL);
  stream->started = false;
}

void wp_stop_workers(CUcontext context) {
  stop(&context->null_stream);
  while (context->streams) {
    stop(context->streams);
    context->streams = context->streams->sibling;
  }
}

// Under wp_lock: workers of destroyed streams that ended are joined here, so that a thousand streams are no thousand.
void wp_reap_workers(CUcontext context) {
  for (struct wp_stream **at = &context->streams; *at;) {
    struct wp_stream *stream = *at;
    bool idle = stream->closing && (stream->started ? stream->finished : stream->completed == stream->submitted);
    if (idle && stream->started) pthread_join(stream->worker, NULL);
    if (idle) {
      stream->started = false;
      *at = stream->sibling;
    } else {
      at = &stream->sibling;
    }
  }
}
