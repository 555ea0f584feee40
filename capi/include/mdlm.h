/* mdlm: masked diffusion language models. Made by cbindgen of the crate mdlm-capi; see its README.md.
 *
 * Objects. Functions that return a pointer make an object, which whoever called frees with the function of its kind.
 * They can be freed in any order, and during a call that uses them: whatever needs an object keeps it. Freeing NULL
 * does nothing. Objects are known by number, so one that was freed or is of another kind is an error, not a crash.
 *
 * Errors. A function that fails returns NULL or MDLM_STATUS_ERROR and, unless `error` is NULL, sets *error to an error
 * that is to be freed; when it succeeds it sets *error to NULL. What is missing, not UTF-8 or out of range is an error
 * with the code "argument" or "config". A bug in the library is an error with the code "internal", never a crash.
 *
 * Pointers. Text is UTF-8 and ends with a zero; what is given need only stay as it is until the call returns. Only
 * parameters said to may be NULL. The pointers that are not to objects must be to what their types say.
 *
 * Room for text and arrays. The caller gives a buffer with its capacity and gets the length, where that is not NULL.
 * Text gets a zero behind it that the length leaves out and the capacity must have room for. If the room does not
 * suffice, that is an error, the length is set and nothing is written. With NULL and a capacity of 0 only the length
 * is told.
 *
 * Threads. Every function may be called from every thread. Samplers of one model take turns, a step each. One sampler
 * does a step at a time: asked for another meanwhile it fails with the code "busy"; but its canvas and what was
 * revealed can be read, and it can be cancelled, at any time. Calls return when their work is done: loading and
 * stepping belong into a thread of their own where something must not wait. On the CPU a step uses all cores.
 */


#ifndef MDLM_H
#define MDLM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// How a call has ended.
typedef enum mdlm_status {
  // It did what it should.
  MDLM_STATUS_OK = 0,
  // Nothing was left to do.
  MDLM_STATUS_DONE = 1,
  // It was cancelled; what had been done stays.
  MDLM_STATUS_CANCELLED = 2,
  // It failed, and changed nothing.
  MDLM_STATUS_ERROR = -1,
} mdlm_status;

// Tokens and masks of a model. Frozen positions keep their token; open ones are filled by a sampler.
typedef struct mdlm_canvas mdlm_canvas;

// Where to compute.
typedef struct mdlm_device mdlm_device;

// What went wrong.
typedef struct mdlm_error mdlm_error;

// A model with its weights on a device.
typedef struct mdlm_model mdlm_model;

// Fills a canvas step by step.
typedef struct mdlm_sampler mdlm_sampler;

// What does not change of a model.
typedef struct mdlm_facts {
  // Tokens have ids below this one.
  size_t vocab_size;
  // Tokens of the longest window; canvases may be longer.
  size_t length;
  // Number of parameters.
  uint64_t parameters;
  // Bytes of the weights on the device.
  uint64_t bytes;
  // Id of the mask.
  uint32_t mask_index;
  // Whether it writes from left to right and fills no gaps.
  bool autoregressive;
} mdlm_facts;

// What a step did.
typedef struct mdlm_report {
  // Steps done, this one included.
  size_t step;
  // Steps in all; 0 where the sampler takes as many as it needs.
  size_t steps;
  // Diffusion time after the step, from 1 down to 0.
  double t;
  // Positions that the step has filled.
  size_t revealed;
  // Positions that the step has masked again.
  size_t remasked;
  // Positions that are still masked.
  size_t masked;
  // Network calls so far.
  size_t network_calls;
} mdlm_report;

// Hears of each step of `mdlm_sampler_run`, on the thread that called it, with the pointer that was given there.
// Anything but 0 cancels. It may call any function of this header, also with the sampler that runs, but must return:
// no exception, no longjmp.
typedef int (*mdlm_observer)(void *user, const struct mdlm_report *report);

// A position that a step has filled.
typedef struct mdlm_revealed {
  // Position in the canvas, from 0.
  size_t position;
  // Its probability under the model, before temperature and truncation.
  double probability;
  // Entropy of the model's prediction there, nats.
  double entropy;
  // Token that stands there now.
  uint32_t token;
} mdlm_revealed;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Version of the library, such as "0.1.0".
const char *mdlm_version(void);

// Stable short name of the kind of error, such as "checkpoint", "argument" or "device_lost". NULL for what is no
// error.
const char *mdlm_error_code(const struct mdlm_error *error);

// What went wrong, in words that name the culprit. NULL for what is no error.
const char *mdlm_error_message(const struct mdlm_error *error);

// What to do about it; NULL where there is nothing to say.
const char *mdlm_error_hint(const struct mdlm_error *error);

// Frees an error and its texts.
enum mdlm_status mdlm_error_free(struct mdlm_error *error);

// Opens a device: "auto" (a hardware GPU, else the CPU), "gpu", "cpu", or part of an adapter's name. NULL is "auto".
struct mdlm_device *mdlm_device_open(const char *name, struct mdlm_error **error);

// What the device is and why it was taken, in a line.
enum mdlm_status mdlm_device_describe(const struct mdlm_device *device,
                                      char *buffer,
                                      size_t capacity,
                                      size_t *length,
                                      struct mdlm_error **error);

// Frees a device; models on it keep what they need.
enum mdlm_status mdlm_device_free(struct mdlm_device *device);

// Loads a model: a folder in the published layout (config.json, model.safetensors, tokenizer.json), a checkpoint, or a
// run's folder. `weights` is how matrices are kept: "f32", "f16", "bf16", "q8" or "q4"; NULL is "f32".
struct mdlm_model *mdlm_model_load(const struct mdlm_device *device,
                                   const char *folder,
                                   const char *weights,
                                   struct mdlm_error **error);

// Its size, its vocabulary, the length of its window and the id of its mask.
enum mdlm_status mdlm_model_facts(const struct mdlm_model *model, struct mdlm_facts *facts, struct mdlm_error **error);

// What it is: "mdlm" or "ar", or the model_type of another program's model, such as "llada".
enum mdlm_status mdlm_model_type(const struct mdlm_model *model,
                                 char *buffer,
                                 size_t capacity,
                                 size_t *length,
                                 struct mdlm_error **error);

// The tokens of a text, in which the names of special tokens mean nothing.
enum mdlm_status mdlm_model_encode(const struct mdlm_model *model,
                                   const char *text,
                                   uint32_t *tokens,
                                   size_t capacity,
                                   size_t *length,
                                   struct mdlm_error **error);

// The text of tokens, in which the mask reads `[MASK]`.
enum mdlm_status mdlm_model_decode(const struct mdlm_model *model,
                                   const uint32_t *tokens,
                                   size_t count,
                                   char *buffer,
                                   size_t capacity,
                                   size_t *length,
                                   struct mdlm_error **error);

// Frees a model; its canvases and samplers keep what they need.
enum mdlm_status mdlm_model_free(struct mdlm_model *model);

// A canvas from a template: text is frozen, `[MASK]` is an open position, `[MASK:3]` are three, and `\[MASK]` is the
// text itself.
struct mdlm_canvas *mdlm_canvas_parse(const struct mdlm_model *model, const char *template_, struct mdlm_error **error);

// A canvas of `length` positions that begins with a template and is open behind it.
struct mdlm_canvas *mdlm_canvas_begin(const struct mdlm_model *model,
                                      const char *template_,
                                      size_t length,
                                      struct mdlm_error **error);

// A canvas of tokens. The model's mask is an open position. Where `frozen` is 0 a token may be changed by samplers that
// write again what they wrote; NULL freezes all tokens.
struct mdlm_canvas *mdlm_canvas_of(const struct mdlm_model *model,
                                   const uint32_t *tokens,
                                   const uint8_t *frozen,
                                   size_t count,
                                   struct mdlm_error **error);

// Puts the tokens before and behind it with which texts began and ended in training, where the model has them: `begin`
// for a text from its beginning, `end` for one up to its end.
enum mdlm_status mdlm_canvas_frame(struct mdlm_canvas *canvas, bool begin, bool end, struct mdlm_error **error);

// Freezes positions that hold tokens.
enum mdlm_status mdlm_canvas_freeze(struct mdlm_canvas *canvas, size_t first, size_t count, struct mdlm_error **error);

// Masks positions and opens them.
enum mdlm_status mdlm_canvas_reopen(struct mdlm_canvas *canvas, size_t first, size_t count, struct mdlm_error **error);

// Its text, in which masks read "_".
enum mdlm_status mdlm_canvas_text(const struct mdlm_canvas *canvas,
                                  char *buffer,
                                  size_t capacity,
                                  size_t *length,
                                  struct mdlm_error **error);

// Its tokens, with the model's mask where it is masked.
enum mdlm_status mdlm_canvas_tokens(const struct mdlm_canvas *canvas,
                                    uint32_t *tokens,
                                    size_t capacity,
                                    size_t *length,
                                    struct mdlm_error **error);

// Frees a canvas.
enum mdlm_status mdlm_canvas_free(struct mdlm_canvas *canvas);

// A sampler for the open positions of a canvas, which stays as it is: the sampler has a copy. `settings` are the
// library's (SampleConfig), a `key=value` a line over the model's own, such as "sampler=entropy-bound\nseed=7"; NULL
// changes none.
struct mdlm_sampler *mdlm_sampler_new(const struct mdlm_canvas *canvas,
                                      const char *settings,
                                      struct mdlm_error **error);

// Does the next step and says what it did, unless `report` is NULL. MDLM_STATUS_DONE, and no report, when nothing is
// left to do. After an error the canvas is as before, and the step can be tried again.
enum mdlm_status mdlm_sampler_step(struct mdlm_sampler *sampler, struct mdlm_report *report, struct mdlm_error **error);

// Does the steps that are left and tells `observer`, unless it is NULL, of each. MDLM_STATUS_DONE when nothing is
// left to do, MDLM_STATUS_CANCELLED when it was cancelled; another run or step goes on from there.
enum mdlm_status mdlm_sampler_run(struct mdlm_sampler *sampler,
                                  mdlm_observer observer,
                                  void *user,
                                  struct mdlm_error **error);

// Ends a run before its next step, from whatever thread; if there is none, the next run ends as it begins.
enum mdlm_status mdlm_sampler_cancel(const struct mdlm_sampler *sampler, struct mdlm_error **error);

// A copy of the canvas as the last step has left it. Never waits, not for a step that is under way either.
struct mdlm_canvas *mdlm_sampler_canvas(const struct mdlm_sampler *sampler, struct mdlm_error **error);

// What the last step has filled, by position.
enum mdlm_status mdlm_sampler_revealed(const struct mdlm_sampler *sampler,
                                       struct mdlm_revealed *revealed,
                                       size_t capacity,
                                       size_t *length,
                                       struct mdlm_error **error);

// Frees a sampler.
enum mdlm_status mdlm_sampler_free(struct mdlm_sampler *sampler);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MDLM_H */
