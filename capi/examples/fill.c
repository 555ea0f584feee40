/* Fills the gaps of a text, and shows how they fill.
 *
 *   fill web/model/mdlm cpu "Lily had a [MASK:3] and she was [MASK:2]."
 */
#include <stdio.h>
#include <stdlib.h>

#include "mdlm.h"

/* What went wrong, what to do about it, and out. */
static void fail(mdlm_error *error) {
  const char *hint = mdlm_error_hint(error);
  fprintf(stderr, "error (%s): %s\n", mdlm_error_code(error), mdlm_error_message(error));
  if (hint) {
    fprintf(stderr, "hint: %s\n", hint);
  }
  mdlm_error_free(error);
  exit(1);
}

/* The text of a canvas, for the caller to free. */
static char *text_of(const mdlm_canvas *canvas) {
  mdlm_error *error = NULL;
  size_t length = 0;
  char *text = NULL;
  if (mdlm_canvas_text(canvas, NULL, 0, &length, &error) == MDLM_STATUS_ERROR) {
    fail(error);
  }
  text = malloc(length + 1);
  if (!text || mdlm_canvas_text(canvas, text, length + 1, NULL, &error) == MDLM_STATUS_ERROR) {
    fail(error);
  }
  return text;
}

/* Called after each step; anything but 0 would cancel. */
static int show(void *sampler, const mdlm_report *report) {
  mdlm_error *error = NULL;
  mdlm_canvas *canvas = mdlm_sampler_canvas(sampler, &error);
  char *text = NULL;
  if (!canvas) {
    fail(error);
  }
  if (report->revealed > 0) {
    text = text_of(canvas);
    printf("%zu masked: %s\n", report->masked, text);
    free(text);
  }
  mdlm_canvas_free(canvas);
  return 0;
}

int main(int count, char **arguments) {
  mdlm_error *error = NULL;
  mdlm_device *device = NULL;
  mdlm_model *model = NULL;
  mdlm_canvas *canvas = NULL;
  mdlm_sampler *sampler = NULL;
  mdlm_facts facts;
  char about[256];
  uint32_t *tokens = NULL;
  size_t length = 0;

  if (count < 4) {
    fprintf(stderr, "usage: %s MODEL DEVICE TEMPLATE [SETTINGS]\n", arguments[0]);
    return 2;
  }
  if (!(device = mdlm_device_open(arguments[2], &error)) ||
      mdlm_device_describe(device, about, sizeof about, NULL, &error) == MDLM_STATUS_ERROR) {
    fail(error);
  }
  fprintf(stderr, "mdlm %s on %s\n", mdlm_version(), about);
  if (!(model = mdlm_model_load(device, arguments[1], "f32", &error)) ||
      mdlm_model_facts(model, &facts, &error) == MDLM_STATUS_ERROR) {
    fail(error);
  }
  printf("%llu parameters, %zu tokens, mask %u\n", (unsigned long long)facts.parameters, facts.vocab_size,
         (unsigned)facts.mask_index);

  /* the template, between the tokens that texts begin and end with */
  if (!(canvas = mdlm_canvas_parse(model, arguments[3], &error)) ||
      mdlm_canvas_frame(canvas, true, true, &error) == MDLM_STATUS_ERROR ||
      !(sampler = mdlm_sampler_new(canvas, count > 4 ? arguments[4] : NULL, &error)) ||
      mdlm_sampler_run(sampler, show, sampler, &error) == MDLM_STATUS_ERROR) {
    fail(error);
  }

  mdlm_canvas_free(canvas);
  if (!(canvas = mdlm_sampler_canvas(sampler, &error)) ||
      mdlm_canvas_tokens(canvas, NULL, 0, &length, &error) == MDLM_STATUS_ERROR) {
    fail(error);
  }
  tokens = malloc(length * sizeof *tokens);
  if (!tokens || mdlm_canvas_tokens(canvas, tokens, length, NULL, &error) == MDLM_STATUS_ERROR) {
    fail(error);
  }
  printf("tokens:");
  for (size_t i = 0; i < length; i++) {
    printf(" %u", (unsigned)tokens[i]);
  }
  printf("\n");

  free(tokens);
  mdlm_sampler_free(sampler);
  mdlm_canvas_free(canvas);
  mdlm_model_free(model);
  mdlm_device_free(device);
  return 0;
}
