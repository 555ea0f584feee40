/* What must go wrong, and how: run by tests/programs.rs with a model's folder. */
#undef NDEBUG
#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mdlm.h"

/* A call that must fail with a code and with words in its message; frees the error. */
static void refused(bool failed, mdlm_error **error, const char *code, const char *words) {
  assert(failed && *error);
  if (strcmp(mdlm_error_code(*error), code) || !strstr(mdlm_error_message(*error), words)) {
    fprintf(stderr, "expected (%s) %s, got (%s) %s\n", code, words, mdlm_error_code(*error),
            mdlm_error_message(*error));
    abort();
  }
  assert(mdlm_error_free(*error) == MDLM_STATUS_OK);
  /* texts and errors that were freed are no more */
  assert(!mdlm_error_code(*error) && !mdlm_error_message(*error) && !mdlm_error_hint(*error));
  assert(mdlm_error_free(*error) == MDLM_STATUS_ERROR);
  *error = NULL;
}

#define FAILS(call, code, words) refused((call) == MDLM_STATUS_ERROR, &error, code, words)
#define MISSES(call, code, words) refused((call) == NULL, &error, code, words)
#define HOLDS(call) assert((call) == MDLM_STATUS_OK && !error)

static size_t masked(mdlm_sampler *sampler, uint32_t mask) {
  uint32_t tokens[256];
  size_t length = 0, open = 0;
  mdlm_canvas *canvas = mdlm_sampler_canvas(sampler, NULL);
  assert(mdlm_canvas_tokens(canvas, tokens, 256, &length, NULL) == MDLM_STATUS_OK);
  for (size_t i = 0; i < length; i++) {
    open += tokens[i] == mask;
  }
  assert(mdlm_canvas_free(canvas) == MDLM_STATUS_OK);
  return open;
}

struct watch {
  mdlm_sampler *sampler;
  int steps;
  int until;
  pthread_t canceller;
  bool elsewhere;
};

static void *cancel(void *user) {
  assert(mdlm_sampler_cancel(((struct watch *)user)->sampler, NULL) == MDLM_STATUS_OK);
  return NULL;
}

/* Cancels after some steps: by itself, or from another thread. */
static int watched(void *user, const mdlm_report *report) {
  struct watch *watch = user;
  mdlm_revealed revealed[256];
  size_t count = 0;
  assert((int)report->step > watch->steps && report->t >= 0 && report->t <= 1);
  watch->steps = (int)report->step;
  assert(mdlm_sampler_revealed(watch->sampler, revealed, 256, &count, NULL) == MDLM_STATUS_OK);
  assert(count == report->revealed);
  for (size_t i = 0; i < count; i++) {
    assert(revealed[i].probability > 0 && revealed[i].probability <= 1);
    assert(isfinite(revealed[i].entropy));
  }
  if (watch->steps < watch->until) {
    return 0;
  }
  if (!watch->elsewhere) {
    return 1;
  }
  assert(pthread_create(&watch->canceller, NULL, cancel, watch) == 0);
  assert(pthread_join(watch->canceller, NULL) == 0);
  return 0;
}

/* A sampler in use when it is freed lives until the call returns. */
static int frees(void *user, const mdlm_report *report) {
  mdlm_sampler *sampler = user;
  mdlm_error *error = NULL;
  assert(report->step == 1 && mdlm_sampler_free(sampler) == MDLM_STATUS_OK);
  FAILS(mdlm_sampler_cancel(sampler, &error), "argument", "was freed");
  return 1;
}

static void *steps(void *user) {
  while (mdlm_sampler_step(user, NULL, NULL) == MDLM_STATUS_OK) {
  }
  return NULL;
}

/* Two samplers of one model in two threads write what one alone writes. */
static void side_by_side(const mdlm_canvas *canvas) {
  uint32_t tokens[3][256];
  size_t length = 0;
  pthread_t threads[2];
  mdlm_sampler *samplers[3];
  for (int i = 0; i < 3; i++) {
    samplers[i] = mdlm_sampler_new(canvas, "steps=8\nseed=5", NULL);
  }
  for (int i = 0; i < 2; i++) {
    assert(pthread_create(&threads[i], NULL, steps, samplers[i]) == 0);
  }
  for (int i = 0; i < 2; i++) {
    assert(pthread_join(threads[i], NULL) == 0);
  }
  steps(samplers[2]);
  for (int i = 0; i < 3; i++) {
    mdlm_canvas *filled = mdlm_sampler_canvas(samplers[i], NULL);
    assert(mdlm_canvas_tokens(filled, tokens[i], 256, &length, NULL) == MDLM_STATUS_OK);
    assert(memcmp(tokens[0], tokens[i], length * sizeof tokens[0][0]) == 0);
    mdlm_canvas_free(filled);
    mdlm_sampler_free(samplers[i]);
  }
}

int main(int count, char **arguments) {
  mdlm_error *error = NULL;
  mdlm_report report;
  mdlm_facts facts;
  char text[256];
  uint32_t tokens[64];
  size_t length = 0;
  assert(count == 2);

  /* devices and folders */
  MISSES(mdlm_device_open("no such device", &error), "no_adapter", "no such device");
  MISSES(mdlm_device_open("\xff", &error), "argument", "name");
  mdlm_device *device = mdlm_device_open("cpu", &error);
  assert(device && !error);
  MISSES(mdlm_model_load(device, "no/such/folder", NULL, &error), "io", "no/such/folder");
  MISSES(mdlm_model_load(device, NULL, NULL, &error), "argument", "folder = NULL");
  MISSES(mdlm_model_load(device, "a\xc3(", NULL, &error), "argument", "not UTF-8 at byte 1");
  MISSES(mdlm_model_load(device, arguments[1], "q3", &error), "argument", "q3");
  MISSES(mdlm_model_load(NULL, arguments[1], NULL, &error), "argument", "device = NULL");
  assert(!mdlm_model_load(device, "no/such/folder", NULL, NULL)); /* nobody wants to know */
  mdlm_model *model = mdlm_model_load(device, arguments[1], NULL, &error);
  assert(model && !error);
  MISSES(mdlm_model_load((mdlm_device *)model, arguments[1], NULL, &error), "argument", "no device");
  HOLDS(mdlm_device_free(device)); /* the model keeps what it needs */
  assert(mdlm_device_free(device) == MDLM_STATUS_ERROR);
  FAILS(mdlm_device_describe(device, text, sizeof text, NULL, &error), "argument", "was freed");

  /* facts, tokens and text */
  HOLDS(mdlm_model_facts(model, &facts, &error));
  FAILS(mdlm_model_facts(model, NULL, &error), "argument", "facts = NULL");
  HOLDS(mdlm_model_type(model, text, sizeof text, &length, &error));
  assert(length == 4 && !strcmp(text, "mdlm"));
  HOLDS(mdlm_model_encode(model, "Lily had a cat.", tokens, 64, &length, &error));
  FAILS(mdlm_model_encode(model, NULL, tokens, 64, &length, &error), "argument", "text = NULL");
  FAILS(mdlm_model_encode(model, "Lily had a cat.", tokens, 1, &length, &error), "argument", "needed");
  FAILS(mdlm_model_encode(model, "a", NULL, 64, &length, &error), "argument", "buffer = NULL");
  HOLDS(mdlm_model_encode(model, "Lily had a cat.", tokens, 64, &length, &error));
  HOLDS(mdlm_model_decode(model, tokens, length, text, 16, NULL, &error));
  assert(!strcmp(text, "Lily had a cat."));
  strcpy(text, "as it was");
  FAILS(mdlm_model_decode(model, tokens, length, text, 15, NULL, &error), "argument", "16 are needed");
  assert(!strcmp(text, "as it was"));
  FAILS(mdlm_model_decode(model, NULL, 3, text, 15, NULL, &error), "argument", "tokens = NULL");
  FAILS(mdlm_model_decode(model, tokens, SIZE_MAX, text, 15, NULL, &error), "argument", "tokens");

  /* canvases */
  MISSES(mdlm_canvas_parse(model, "a [MASK:x]", &error), "argument", "wants a number");
  MISSES(mdlm_canvas_parse(model, NULL, &error), "argument", "template = NULL");
  MISSES(mdlm_canvas_begin(model, "Lily had a cat.", 1, &error), "argument", "do not fit");
  MISSES(mdlm_canvas_of(model, NULL, NULL, 1, &error), "argument", "tokens = NULL");
  mdlm_canvas *canvas = mdlm_canvas_begin(model, "Lily had a", 32, &error);
  assert(canvas && !error);
  HOLDS(mdlm_canvas_frame(canvas, true, false, &error));
  HOLDS(mdlm_canvas_tokens(canvas, NULL, 0, &length, &error));
  assert(length == 33);
  FAILS(mdlm_canvas_freeze(canvas, 30, 1, &error), "argument", "cannot be frozen");
  FAILS(mdlm_canvas_reopen(canvas, 1, SIZE_MAX, &error), "argument", "outside a canvas of 33");
  HOLDS(mdlm_canvas_freeze(canvas, 0, 2, &error));
  HOLDS(mdlm_canvas_reopen(canvas, 1, 1, &error));
  HOLDS(mdlm_canvas_tokens(canvas, tokens, 64, NULL, &error));
  assert(tokens[0] != facts.mask_index && tokens[1] == facts.mask_index);
  tokens[0] = UINT32_MAX;
  mdlm_canvas *strange = mdlm_canvas_of(model, tokens, NULL, 33, &error);
  MISSES(mdlm_sampler_new(strange, NULL, &error), "token", "position 0");
  HOLDS(mdlm_canvas_free(strange));

  /* settings */
  MISSES(mdlm_sampler_new(canvas, "stepps=3", &error), "config", "sampling.stepps");
  MISSES(mdlm_sampler_new(canvas, "steps", &error), "config", "sampling.steps");
  MISSES(mdlm_sampler_new(canvas, "steps=0", &error), "config", "sampling.steps = 0");
  MISSES(mdlm_sampler_new((mdlm_canvas *)model, NULL, &error), "argument", "no canvas");

  /* cancelled by what watches, then from another thread, then before it began; and on to the end */
  mdlm_sampler *sampler = mdlm_sampler_new(canvas, "# a comment\n\nsteps=16\r\nsampler=ancestral", &error);
  assert(sampler && !error);
  struct watch watch = {.sampler = sampler, .until = 3};
  size_t open = masked(sampler, facts.mask_index);
  assert(mdlm_sampler_run(sampler, watched, &watch, &error) == MDLM_STATUS_CANCELLED && !error);
  assert(watch.steps == 3 && masked(sampler, facts.mask_index) < open);
  watch.until = 6;
  watch.elsewhere = true;
  assert(mdlm_sampler_run(sampler, watched, &watch, &error) == MDLM_STATUS_CANCELLED && !error);
  assert(watch.steps == 6 && masked(sampler, facts.mask_index) > 0);
  HOLDS(mdlm_sampler_cancel(sampler, &error));
  assert(mdlm_sampler_run(sampler, watched, &watch, &error) == MDLM_STATUS_CANCELLED);
  assert(watch.steps == 6);
  HOLDS(mdlm_sampler_step(sampler, &report, &error));
  assert(report.step == 7 && report.steps == 16);
  assert(mdlm_sampler_run(sampler, NULL, NULL, &error) == MDLM_STATUS_DONE && !error);
  assert(masked(sampler, facts.mask_index) == 0);
  assert(mdlm_sampler_step(sampler, NULL, &error) == MDLM_STATUS_DONE && !error);
  HOLDS(mdlm_sampler_free(sampler));
  FAILS(mdlm_sampler_step(sampler, &report, &error), "argument", "was freed");

  sampler = mdlm_sampler_new(canvas, NULL, &error);
  assert(mdlm_sampler_run(sampler, frees, sampler, &error) == MDLM_STATUS_CANCELLED);
  side_by_side(canvas);
  HOLDS(mdlm_model_free(model)); /* the canvas keeps what it needs */
  HOLDS(mdlm_canvas_text(canvas, text, sizeof text, &length, &error));
  HOLDS(mdlm_canvas_free(canvas));

  /* nothing to free */
  HOLDS(mdlm_canvas_free(NULL));
  HOLDS(mdlm_model_free(NULL));
  HOLDS(mdlm_sampler_free(NULL));
  HOLDS(mdlm_device_free(NULL));
  HOLDS(mdlm_error_free(NULL));
  printf("all of it was refused\n");
  return 0;
}
