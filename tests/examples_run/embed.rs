//! `embed`: the crate inside another program.

use std::path::Path;

use crate::common::examples::{example, ok, printed};

fn check(text: &str) {
    let line = |begin: &str| {
        let found = text.lines().find(|line| line.starts_with(begin));
        found.unwrap_or_else(|| panic!("no {begin:?} in: {text}"))
    };
    // 24 of 48 positions, one a frame; the autoregressive model has 47 to fill, and a last look
    line("frame 24: diffusion stops, 24 masked: ");
    line("frame 48: autoregressive stops, 0 masked: ");
    assert!(!line("24 tokens stayed: ").contains('_'), "{text}");
    assert_eq!(line("errors before"), "errors before: 0");
    assert_eq!(line("log level"), "log level: OFF");
}

#[test]
fn two_models_share_a_device_of_the_application() {
    let text = ok("embed", Path::new("."), &[]).stdout;
    check(&text);
    assert!(text.contains("\nafter our own: 1\n"), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn without_an_adapter_the_cpu_computes() {
    let mut command = example("embed");
    for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        command.env(variable, "no such driver");
    }
    let (success, printed) = printed(command.output().unwrap());
    assert!(success, "{}", printed.stderr);
    let begin = "no GPU adapter: the CPU computes\ndevice: CPU twin";
    assert!(printed.stdout.starts_with(begin), "{}", printed.stdout);
    check(&printed.stdout);
}
