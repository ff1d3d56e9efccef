// The way into every function: calls are counted, faults are injected, and what a call needs is checked.
//
// In: WATCHPOST_SOFT_FAIL at the first call and wpSoftFail at any time: "NAME:WHEN=CODE" separated by commas, where NAME
// is a function with or without its _v2, WHEN is 3 (the third call from now), 3+ (that and all after) or * (every call).
// NAME@1 is the function where a context of device 1 is current.
// Out: the code to return. Who owns: the rules belong to this file, under their own lock; each function owns its counter.
// What fails: a specification that cannot be read aborts, since a test that injects nothing would prove nothing.
#include "soft.h"

#include <stdio.h>

struct rule { char name[64]; CUdevice device; long at; bool onward; CUresult code; long seen; };

static pthread_mutex_t rules_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t rules_once = PTHREAD_ONCE_INIT;
static struct rule rules[32];
static size_t rule_count;
static atomic_bool rules_exist;
static atomic_long injected;
static _Atomic(struct wp_site *) sites;
atomic_bool wp_initialized;

// Letters of a name before its version: cuMemAlloc of cuMemAlloc_v2.
static size_t stem(const char *name) {
  const char *cut = strstr(name, "_v");
  return cut && cut[2] >= '0' && cut[2] <= '9' ? (size_t)(cut - name) : strlen(name);
}

static bool same_function(const char *a, const char *b) {
  return stem(a) == stem(b) && !strncmp(a, b, stem(a));
}

static void set_rules(const char *specification) {
  pthread_mutex_lock(&rules_lock);
  rule_count = 0;
  for (const char *at = specification; at && *at;) {
    char when[16], after;
    struct rule rule = {.code = -1, .device = -1};
    int read = 0;
    if (rule_count == sizeof rules / sizeof *rules ||
        sscanf(at, "%63[A-Za-z0-9_@]:%15[0-9+*]=%d%n", rule.name, when, &rule.code, &read) != 3 ||
        (at[read] && at[read] != ',')) {
      wp_abort("cannot read the fault \"%s\"; it wants NAME:WHEN=CODE, WHEN one of 3, 3+ and *", at);
    }
    char *device = strchr(rule.name, '@');
    if (device) {
      if (sscanf(device, "@%d%c", &rule.device, &after) != 1) wp_abort("cannot read the device in \"%s\"", at);
      *device = 0;
    }
    if (strcmp(when, "*")) {
      int parts = sscanf(when, "%ld%c", &rule.at, &after);
      rule.onward = parts == 2 && after == '+';
      if (parts < 1 || rule.at < 1 || (parts == 2 && !rule.onward)) wp_abort("cannot read when to fail in \"%s\"", at);
    } else {
      rule.at = 1;
      rule.onward = true;
    }
    rules[rule_count++] = rule;
    at += read;
    at += *at == ',';
  }
  atomic_store(&rules_exist, rule_count > 0);
  pthread_mutex_unlock(&rules_lock);
}

static void rules_from_environment(void) { set_rules(getenv("WATCHPOST_SOFT_FAIL")); }

// Replaces all rules, and counts calls from here on; NULL or "" ends all faults. A sticky error stays with its context.
API void wpSoftFail(const char *specification);
void wpSoftFail(const char *specification) {
  pthread_once(&rules_once, rules_from_environment);
  set_rules(specification);
}

static CUresult fault(const char *name, CUcontext context) {
  CUresult code = OK;
  pthread_mutex_lock(&rules_lock);
  for (size_t i = 0; i < rule_count; i++) {
    struct rule *rule = &rules[i];
    if (!same_function(rule->name, name)) continue;
    if (rule->device >= 0 && (!context || context->device != rule->device)) continue;
    rule->seen++;
    if (!code && (rule->seen == rule->at || (rule->onward && rule->seen > rule->at))) code = rule->code;
  }
  pthread_mutex_unlock(&rules_lock);
  if (code) atomic_fetch_add(&injected, 1);
  return code;
}

bool wp_is_sticky(CUresult code) {
  return code == ILLEGAL_ADDRESS || code == 214 || code == 702 || code == 710 || (code >= 714 && code <= LAUNCH_FAILED);
}

CUresult wp_enter(struct wp_site *site, const char *name, int needs) {
  pthread_once(&rules_once, rules_from_environment);
  if (!atomic_exchange(&site->listed, true)) {
    site->name = name;
    site->next = atomic_load(&sites);
    while (!atomic_compare_exchange_weak(&sites, &site->next, site)) {}
  }
  atomic_fetch_add(&site->calls, 1);
  CUcontext context = wp_current();
  if (atomic_load(&rules_exist)) {
    CUresult code = fault(name, context);
    if (code && wp_is_sticky(code) && context) wp_sicken(context, code);
    if (code) return code;
  }
  if (needs >= INIT && !atomic_load(&wp_initialized)) return NOT_INITIALIZED;
  if (needs >= CURRENT) {
    if (!context) return INVALID_CONTEXT;
    CUresult problem = OK;
    wp_adopt(context, &problem);
    if (problem) return problem;
  }
  return OK;
}

struct wp_site *wp_sites(void) { return atomic_load(&sites); }
long wp_faults_injected(void) { return atomic_load(&injected); }
