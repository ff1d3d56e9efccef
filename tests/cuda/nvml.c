// A libnvidia-ml.so.1 for tests: it gives the figures of GPUs that it is told, and fails where it is told.
//
// In: WATCHPOST_SOFT_NVML_* variables, read at each call. A figure is a list, "12,34,50": the first answer, the second,
// and the last for ever. DEVICES (else WATCHPOST_SOFT_DEVICES, else 1), SM, DECODER, ENCODER (percent), SESSIONS,
// MEMORY_USED, MEMORY_TOTAL (bytes), TEMPERATURE, POWER (milliwatts), THROTTLE (NVML's bits), PROCESSES ("PID=BYTES", with
// "self" for this process, separated by ";"), DRIVER (its version). Device n of several adds n to TEMPERATURE.
// FAIL as WATCHPOST_SOFT_FAIL: "NAME:WHEN=CODE" separated by commas, WHEN one of 3, 3+ and *; NVML's codes.
// Out: what the functions that nvml-wrapper calls give. Names and ids are those of the software CUDA driver.
// Who owns: nothing is made; handles are small numbers. What fails: a specification that cannot be read aborts.
// Built with -DOLD it is the library of a driver of 2021, which lacks the newer forms of some functions.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
typedef int nvmlReturn_t;
typedef void *nvmlDevice_t;
enum { OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, INSUFFICIENT_SIZE = 7, MOST_CALLS = 64 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int users;   // nvmlInit calls that nvmlShutdown has not answered

static void give_up(const char *why, const char *text) {
  fprintf(stderr, "software NVML: %s: \"%s\"\n", why, text);
  abort();
}

// ---- Calls are counted by name, and fail where a rule says so.

static struct { const char *name; long count; } calls[MOST_CALLS];

static long count(const char *name) {   // under the lock: how often this was asked, this time included
  for (int i = 0; i < MOST_CALLS; i++) {
    if (!calls[i].name) calls[i].name = name;
    if (!strcmp(calls[i].name, name)) return ++calls[i].count;
  }
  give_up("too many functions", name);
  return 0;
}

static nvmlReturn_t enter(const char *name, bool started) {
  pthread_mutex_lock(&lock);
  long nth = count(name);
  bool usable = !started || users > 0;
  pthread_mutex_unlock(&lock);
  for (const char *at = getenv("WATCHPOST_SOFT_NVML_FAIL"); at && *at;) {
    char which[64], when[16], after;
    int code, read = 0;
    long from = 1;
    if (sscanf(at, "%63[A-Za-z0-9_]:%15[0-9+*]=%d%n", which, when, &code, &read) != 3 || (at[read] && at[read] != ',')) {
      give_up("cannot read the fault; it wants NAME:WHEN=CODE, WHEN one of 3, 3+ and *", at);
    }
    int parts = strcmp(when, "*") ? sscanf(when, "%ld%c", &from, &after) : 2;
    if (parts < 1) give_up("cannot read when to fail", at);
    if (!strcmp(which, name) && (parts == 2 ? nth >= from : nth == from)) return code;
    at += read;
    at += *at == ',';
  }
  return usable ? OK : UNINITIALIZED;
}
#define ENTER(started)                                          \
  do {                                                          \
    nvmlReturn_t entered_ = enter(__func__, (started));         \
    if (entered_) return entered_;                              \
  } while (0)

// ---- Figures

static const char *setting(const char *name) {
  char variable[64];
  snprintf(variable, sizeof variable, "WATCHPOST_SOFT_NVML_%s", name);
  const char *text = getenv(variable);
  return text && *text ? text : NULL;
}

static long long number(const char *text) {
  char *end;
  long long value = strtoll(text, &end, 10);
  if (end == text || (*end && *end != ',')) give_up("no number", text);
  return value;
}

// The next value of a figure's list. Each device counts for itself.
static long long figure(const char *name, nvmlDevice_t device, long long otherwise) {
  const char *text = setting(name);
  if (!text) return otherwise;
  static struct { char key[32]; long count; } asked[MOST_CALLS];
  char key[32];
  snprintf(key, sizeof key, "%s %d", name, (int)(intptr_t)device);
  pthread_mutex_lock(&lock);
  long nth = 0;
  for (int i = 0; i < MOST_CALLS && !nth; i++) {
    if (!*asked[i].key) snprintf(asked[i].key, sizeof asked[i].key, "%s", key);
    if (!strcmp(asked[i].key, key)) nth = ++asked[i].count;
  }
  pthread_mutex_unlock(&lock);
  while (--nth > 0 && strchr(text, ',')) text = strchr(text, ',') + 1;
  return number(text);
}

static unsigned devices(void) {
  const char *text = setting("DEVICES");
  if (!text) text = getenv("WATCHPOST_SOFT_DEVICES");
  return text && *text ? (unsigned)number(text) : 1;
}

static int index_of(nvmlDevice_t device) { return (int)(intptr_t)device - 1; }
static bool is_device(nvmlDevice_t device) { return index_of(device) >= 0 && index_of(device) < (int)devices(); }
#define DEVICE(device, out) do { ENTER(true); if (!is_device(device) || !(out)) return INVALID_ARGUMENT; } while (0)

// ---- The library

API nvmlReturn_t nvmlInit_v2(void);
nvmlReturn_t nvmlInit_v2(void) {
  ENTER(false);
  pthread_mutex_lock(&lock);
  users++;
  pthread_mutex_unlock(&lock);
  return OK;
}

API nvmlReturn_t nvmlShutdown(void);
nvmlReturn_t nvmlShutdown(void) {
  ENTER(true);
  pthread_mutex_lock(&lock);
  users--;
  pthread_mutex_unlock(&lock);
  return OK;
}

static nvmlReturn_t text(char *out, unsigned room, const char *value) {
  return (unsigned)snprintf(out, room, "%s", value) < room ? OK : INSUFFICIENT_SIZE;
}

API nvmlReturn_t nvmlSystemGetDriverVersion(char *out, unsigned room);
nvmlReturn_t nvmlSystemGetDriverVersion(char *out, unsigned room) {
  ENTER(true);
  const char *version = setting("DRIVER");
  return out ? text(out, room, version ? version : "570.0.soft") : INVALID_ARGUMENT;
}

API nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *out);
nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *out) {
  ENTER(true);
  if (!out) return INVALID_ARGUMENT;
  *out = devices();
  return OK;
}

API nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *out);
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *out) {
  ENTER(true);
  if (!out || index >= devices()) return INVALID_ARGUMENT;
  *out = (nvmlDevice_t)(intptr_t)(index + 1);
  return OK;
}

// ---- A device

API nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *out, unsigned room);
nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *out, unsigned room) {
  DEVICE(device, out);
  char name[32];
  snprintf(name, sizeof name, "Software GPU %d", index_of(device));
  return text(out, room, name);
}

// "software-gpu-" and the index, as contexts.c has it, written as NVML writes ids.
API nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *out, unsigned room);
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *out, unsigned room) {
  DEVICE(device, out);
  char id[48];
  snprintf(id, sizeof id, "GPU-736f6674-7761-7265-2d67-70752d0000%02x", index_of(device));
  return text(out, room, id);
}

struct utilization { unsigned gpu, memory; };
API nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, struct utilization *out);
nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, struct utilization *out) {
  DEVICE(device, out);
  *out = (struct utilization){.gpu = (unsigned)figure("SM", device, 0)};
  return OK;
}

API nvmlReturn_t nvmlDeviceGetDecoderUtilization(nvmlDevice_t device, unsigned *out, unsigned *period);
nvmlReturn_t nvmlDeviceGetDecoderUtilization(nvmlDevice_t device, unsigned *out, unsigned *period) {
  DEVICE(device, out && period);
  *out = (unsigned)figure("DECODER", device, 0);
  *period = 167000;
  return OK;
}

API nvmlReturn_t nvmlDeviceGetEncoderUtilization(nvmlDevice_t device, unsigned *out, unsigned *period);
nvmlReturn_t nvmlDeviceGetEncoderUtilization(nvmlDevice_t device, unsigned *out, unsigned *period) {
  DEVICE(device, out && period);
  *out = (unsigned)figure("ENCODER", device, 0);
  *period = 167000;
  return OK;
}

API nvmlReturn_t nvmlDeviceGetEncoderStats(nvmlDevice_t device, unsigned *sessions, unsigned *fps, unsigned *latency);
nvmlReturn_t nvmlDeviceGetEncoderStats(nvmlDevice_t device, unsigned *sessions, unsigned *fps, unsigned *latency) {
  DEVICE(device, sessions && fps && latency);
  *sessions = (unsigned)figure("SESSIONS", device, 0);
  *fps = *latency = 0;
  return OK;
}

API nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned sensor, unsigned *out);
nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned sensor, unsigned *out) {
  DEVICE(device, out);
  if (sensor) return INVALID_ARGUMENT;
  *out = (unsigned)(figure("TEMPERATURE", device, 40) + index_of(device));
  return OK;
}

API nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned *out);
nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned *out) {
  DEVICE(device, out);
  *out = (unsigned)figure("POWER", device, 10000);
  return OK;
}

API nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long *out);
nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long *out) {
  DEVICE(device, out);
  *out = (unsigned long long)figure("THROTTLE", device, 1);   // 1: nothing runs
  return OK;
}

#ifndef OLD
struct memory { unsigned version; unsigned long long total, reserved, free, used; };
API nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, struct memory *out);
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, struct memory *out) {
  DEVICE(device, out);
  if (out->version != (sizeof *out | 2u << 24)) return 25;   // the structure's version is another
  out->total = (unsigned long long)figure("MEMORY_TOTAL", device, 2LL << 30);
  out->used = (unsigned long long)figure("MEMORY_USED", device, 0);
  out->free = out->total - out->used;
  out->reserved = 0;
  return OK;
}

struct process { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; };
API nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *many, struct process *out);
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *many, struct process *out) {
  DEVICE(device, many);
  unsigned room = *many, found = 0;
  for (const char *at = setting("PROCESSES"); at && *at;) {
    char who[16];
    unsigned long long memory;
    int read = 0;
    if (sscanf(at, "%15[a-z0-9]=%llu%n", who, &memory, &read) != 2 || (at[read] && at[read] != ';')) {
      give_up("cannot read the processes; they want PID=BYTES;...", at);
    }
    unsigned pid = strcmp(who, "self") ? (unsigned)number(who) : (unsigned)getpid();
    if (found < room && out) out[found] = (struct process){.pid = pid, .memory = memory, .gpu_instance = ~0u, .compute_instance = ~0u};
    found++;
    at += read;
    at += *at == ';';
  }
  *many = found;
  return found > room ? INSUFFICIENT_SIZE : OK;
}

API nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned *many, struct process *out);
nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned *many, struct process *out) {
  DEVICE(device, many);
  (void)out;
  *many = 0;
  return OK;
}
#endif
