// Errors that say what they are by a code.

export const problem = (code, message, hint) => Object.assign(new Error(message), { code, hint });

/** Codes after which the worker is of no use. */
export const FATAL = ["device_lost", "worker", "internal"];
