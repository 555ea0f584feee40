//! A disk that takes no more.

use std::path::Path;
use std::process::Command;

use mdlm::io::checkpoint::{list, verify};

use crate::common::Executor;
use crate::common::runs::{assert_same, checkpoint, config, contents, refused, resume, run, start};

/// Names the run that a child process continues, with a limit on the size of its files.
const CHILD: &str = "MDLM_LIMITED_CHILD";

/// In the child: the step is done, but its checkpoint does not fit.
fn continue_with_a_limit(dir: &Path) {
    let mut trainer = resume(Executor::CpuF32.shared(), &config(3), dir).unwrap();
    refused(
        run(&mut trainer, dir, 3),
        "io",
        &["cannot write", "model.safetensors"],
    );
    assert_eq!(trainer.steps_done(), 3);
}

#[test]
fn a_checkpoint_that_does_not_fit_leaves_the_one_before() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return continue_with_a_limit(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let (whole, broken) = (dir.path().join("whole"), dir.path().join("broken"));
    let device = Executor::CpuF32.shared();
    start(device, &config(3), &whole, 3);
    start(device, &config(3), &broken, 2);
    let before = contents(&checkpoint(&broken, 2));

    // a limit on file sizes: room for the log, not for weights; the signal becomes an error
    let limited = "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\"";
    let name = "bad_input::disk::a_checkpoint_that_does_not_fit_leaves_the_one_before";
    let output = Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, &broken)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );

    let left: Vec<u64> = list(&broken).unwrap().iter().map(|c| c.0).collect();
    assert_eq!(left, [2]);
    verify(&checkpoint(&broken, 2)).unwrap();
    assert!(contents(&checkpoint(&broken, 2)) == before);
    let names = contents(&broken);
    assert!(!names.keys().any(|name| name.starts_with('.')), "leftovers");

    // with room again, the run goes on as if nothing had happened
    let mut trainer = resume(device, &config(3), &broken).unwrap();
    run(&mut trainer, &broken, 3).unwrap();
    assert_same(&checkpoint(&whole, 3), &checkpoint(&broken, 3));
}
