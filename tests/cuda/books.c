// The books: what exists, in all and on each device, what was copied in which direction, what was launched, what was
// wrong. Also the handles, since a handle is an entry in them.
//
// In: births, ends, copies and launches as the other files report them. Out: wpSoftReport, JSON; the same at the end of
// the process in the file that WATCHPOST_SOFT_REPORT names.
// Who owns: this file, under wp_lock. A report's text belongs to its thread until that thread's next report.
// What fails: a report that cannot be written is said on stderr; damage in a guard zone, found by a report, aborts.
#include "soft.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

pthread_mutex_t wp_lock = PTHREAD_MUTEX_INITIALIZER;

static const char *const KIND_NAMES[KINDS] = {
  "contexts", "streams", "events", "modules", "pools", "allocations", "host_allocations", "host_registrations",
};
static const char *const DIRECTION_NAMES[DIRECTIONS] = {
  "host_to_device", "device_to_host", "device_to_device", "host_to_host",
};
static struct count { long created, freed, reclaimed, peak; } kinds[KINDS];
static struct { struct count kinds[KINDS]; long retained, released, launches; } devices[DEVICES];
static struct { long calls; unsigned long long bytes; } copies[DIRECTIONS];
struct launch { struct launch *next; long count; char kernel[]; };
static struct launch *launches;
static long retains, releases, sticky_errors, misuses;
static char last_misuse[400];

// ---- Births, ends, events

static void born(struct count *count) {
  count->created++;
  long alive = count->created - count->freed - count->reclaimed;
  if (alive > count->peak) count->peak = alive;
}

void wp_born(enum wp_kind kind, CUdevice device) {
  born(&kinds[kind]);
  born(&devices[device].kinds[kind]);
}

static void gone(struct count *count, bool reclaimed) {
  if (reclaimed) count->reclaimed++;
  else count->freed++;
}

void wp_gone(enum wp_kind kind, CUdevice device, bool reclaimed) {
  gone(&kinds[kind], reclaimed);
  gone(&devices[device].kinds[kind], reclaimed);
}

void wp_launched(const char *kernel, CUdevice device) {
  devices[device].launches++;
  struct launch **at = &launches;
  while (*at && strcmp((*at)->kernel, kernel)) at = &(*at)->next;
  if (!*at) {
    *at = calloc(1, sizeof **at + strlen(kernel) + 1);
    if (!*at) wp_abort("no memory for the books");
    strcpy((*at)->kernel, kernel);
  }
  (*at)->count++;
}

void wp_copied(enum wp_direction direction, size_t bytes) {
  copies[direction].calls++;
  copies[direction].bytes += bytes;
}

void wp_primary(bool retained, CUdevice device) {
  if (retained) retains++, devices[device].retained++;
  else releases++, devices[device].released++;
}

void wp_sicken(CUcontext context, CUresult code) {
  int healthy = OK;
  if (!atomic_compare_exchange_strong(&context->sticky, &healthy, code)) return;
  static atomic_long told;
  sticky_errors = atomic_fetch_add(&told, 1) + 1;
}

// ---- What goes wrong

void wp_abort(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("software CUDA driver: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  abort();
}

void wp_misuse(const char *format, ...) {
  char text[sizeof last_misuse];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (wp_settings()->strict) wp_abort("%s", text);
  fprintf(stderr, "software CUDA driver: %s\n", text);
  pthread_mutex_lock(&wp_lock);
  misuses++;
  memcpy(last_misuse, text, sizeof text);
  pthread_mutex_unlock(&wp_lock);
}

// ---- Handles

void *wp_handle_new(size_t size, unsigned mark, enum wp_kind kind, struct wp_context *context) {
  struct wp_handle *handle = calloc(1, size);
  if (!handle) wp_abort("no memory for a handle");
  handle->mark = mark;
  handle->kind = kind;
  handle->context = context;
  pthread_mutex_lock(&wp_lock);
  handle->next = context->handles;
  handle->link = &context->handles;
  if (handle->next) handle->next->link = &handle->next;
  context->handles = handle;
  wp_born(kind, context->device);
  pthread_mutex_unlock(&wp_lock);
  return handle;
}

bool wp_handle_is(const void *handle, unsigned mark) {
  // The legacy and per-thread streams are the numbers 1 and 2; no handle lies that low.
  return (uintptr_t)handle > 4096 && ((uintptr_t)handle & 7) == 0 && ((const struct wp_handle *)handle)->mark == mark;
}

// The memory stays, so that using a dead handle is an error and not a crash. It hangs in a list to be no leak.
void wp_handle_end(struct wp_handle *handle, bool reclaimed) {
  static struct wp_handle *graveyard;
  handle->mark = MARK_DEAD;
  *handle->link = handle->next;
  if (handle->next) handle->next->link = handle->link;
  handle->next = graveyard;
  graveyard = handle;
  wp_gone(handle->kind, handle->context->device, reclaimed);
}

// ---- Reports

void wp_print(struct wp_text *text, const char *format, ...) {
  for (;;) {
    va_list arguments;
    va_start(arguments, format);
    size_t room = text->room - text->length;
    int wanted = vsnprintf(text->at ? text->at + text->length : NULL, room, format, arguments);
    va_end(arguments);
    if (wanted >= 0 && (size_t)wanted < room) {
      text->length += (size_t)wanted;
      return;
    }
    text->room = text->room * 2 + (size_t)wanted + 1024;
    text->at = realloc(text->at, text->room);
    if (!text->at) wp_abort("no memory for a report");
  }
}

static void print_string(struct wp_text *text, const char *string) {
  wp_print(text, "\"");
  for (; *string; string++) {
    if ((unsigned char)*string < 32 || *string == '"' || *string == '\\') wp_print(text, "\\u%04x", (unsigned)*string);
    else wp_print(text, "%c", *string);
  }
  wp_print(text, "\"");
}

static void print_kinds(struct wp_text *text, const struct count *of) {
  for (int i = 0; i < KINDS; i++) {
    long alive = of[i].created - of[i].freed - of[i].reclaimed;
    wp_print(text, "\"%s\":{\"created\":%ld,\"freed\":%ld,\"reclaimed\":%ld,\"alive\":%ld,\"peak\":%ld},", KIND_NAMES[i],
             of[i].created, of[i].freed, of[i].reclaimed, alive, of[i].peak);
  }
}

static void write_report(struct wp_text *text) {
  text->length = 0;
  wp_print(text, "{");
  pthread_mutex_lock(&wp_lock);
  wp_check_guards();
  print_kinds(text, kinds);
  size_t device, device_peak, host, host_peak;
  wp_memory_books(&device, &device_peak, &host, &host_peak);
  wp_print(text, "\"primary\":{\"retained\":%ld,\"released\":%ld},", retains, releases);
  wp_print(text, "\"bytes\":{\"device\":%zu,\"device_peak\":%zu,\"host\":%zu,\"host_peak\":%zu},", device, device_peak,
           host, host_peak);
  wp_print(text, "\"copies\":{");
  for (int i = 0; i < DIRECTIONS; i++) {
    wp_print(text, "%s\"%s\":{\"calls\":%ld,\"bytes\":%llu}", i ? "," : "", DIRECTION_NAMES[i], copies[i].calls,
             copies[i].bytes);
  }
  wp_print(text, "},\"launches\":{");
  for (const struct launch *launch = launches; launch; launch = launch->next) {
    print_string(text, launch->kernel);
    wp_print(text, ":%ld%s", launch->count, launch->next ? "," : "");
  }
  wp_print(text, "},\"calls\":{");
  for (const struct wp_site *site = wp_sites(); site; site = site->next) {
    wp_print(text, "\"%s\":%ld%s", site->name, atomic_load(&((struct wp_site *)site)->calls), site->next ? "," : "");
  }
  wp_print(text, "},\"faults\":%ld,\"sticky\":%ld,\"misuse\":{\"count\":%ld,\"last\":", wp_faults_injected(),
           sticky_errors, misuses);
  print_string(text, last_misuse);
  // Last: who looks for a name in the text finds that of all devices first.
  wp_print(text, "},\"devices\":[");
  for (int i = 0; i < wp_settings()->devices; i++) {
    wp_print(text, "%s{", i ? "," : "");
    print_kinds(text, devices[i].kinds);
    wp_print(text, "\"primary\":{\"retained\":%ld,\"released\":%ld},\"launches\":%ld}", devices[i].retained,
             devices[i].released, devices[i].launches);
  }
  pthread_mutex_unlock(&wp_lock);
  wp_print(text, "]}");
}

static pthread_key_t report_key;
static pthread_once_t report_once = PTHREAD_ONCE_INIT;

static void free_text(void *given) {
  struct wp_text *text = given;
  free(text->at);
  free(text);
}

static void make_report_key(void) {
  if (pthread_key_create(&report_key, free_text)) wp_abort("no thread-local storage for reports");
}

// The books as JSON. Checks every guard zone first.
API const char *wpSoftReport(void);
const char *wpSoftReport(void) {
  pthread_once(&report_once, make_report_key);
  struct wp_text *text = pthread_getspecific(report_key);
  if (!text) {
    text = calloc(1, sizeof *text);
    if (!text) wp_abort("no memory for a report");
    pthread_setspecific(report_key, text);
  }
  write_report(text);
  return text->at;
}

// At the end of the process, also when nobody asked for a report: the guard zones are checked all the same.
__attribute__((destructor)) static void last_report(void) {
  struct wp_text text = {0};
  write_report(&text);
  const char *name = wp_settings()->report;
  if (name && *name) {
    struct wp_text path = {0}, draft = {0};
    const char *process = strstr(name, "%p");
    if (process) wp_print(&path, "%.*s%ld%s", (int)(process - name), name, (long)getpid(), process + 2);
    else wp_print(&path, "%s", name);
    // Renamed when whole: who waits for the file never reads half of it.
    wp_print(&draft, "%s.part", path.at);
    FILE *file = fopen(draft.at, "w");
    bool written = file && fprintf(file, "%s\n", text.at) > 0;
    if (file && fclose(file)) written = false;
    if (!written || rename(draft.at, path.at)) {
      fprintf(stderr, "software CUDA driver: cannot write the report %s\n", path.at);
    }
    free(path.at);
    free(draft.at);
  }
  free(text.at);
}
