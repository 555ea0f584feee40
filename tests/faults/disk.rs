//! A disk that is full and a folder that may not be written to, as the system has them.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use mdlm::config::TrainConfig;
use mdlm::io::checkpoint::{list, verify};
use mdlm_engine::rng::{Rng, Stream};

use crate::common::Executor;
use crate::common::runs::{checkpoint, config, contents, refused, resume, run, start};
use crate::common::trials::trials;

/// Names the folder that a child process works in.
const CHILD: &str = "MDLM_DISK_CHILD";

fn two_steps() -> TrainConfig {
    let mut config = config(2);
    config.training.save_every = 1;
    config
}

/// This test in a process of its own, behind a program that prepares it.
fn child(program: &[&str], test: &str, dir: &Path) -> Output {
    let exe = std::env::current_exe().unwrap();
    let mut words: Vec<&str> = program.to_vec();
    let name = format!("disk::{test}");
    words.extend([exe.to_str().unwrap(), "--exact", &name, "--nocapture"]);
    let mut command = Command::new(words[0]);
    let output = command.args(&words[1..]).env(CHILD, dir).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
    output
}

/// A step of a run on a small disk that has room for so many bytes; whether they were enough.
fn with_room(disk: &Path, whole: &Path, room: u64) -> bool {
    let (device, config) = (Executor::CpuF32.shared(), two_steps());
    let (dir, ballast) = (disk.join("run"), disk.join("ballast"));
    start(device, &config, &dir, 1);
    let mut trainer = resume(device, &config, &dir).unwrap();
    let mut file = File::create(&ballast).unwrap();
    let (mut filled, zeros) = (0, [0; 4096]);
    while let Ok(n) = file.write(&zeros) {
        filled += n as u64;
    }
    file.set_len(filled.saturating_sub(room)).unwrap();
    drop(file);
    let result = run(&mut trainer, &dir, 2);
    for (step, path) in list(&dir).unwrap() {
        verify(&path).unwrap();
        assert!(contents(&path) == contents(&checkpoint(whole, step)));
    }
    if let Err(error) = &result {
        assert_eq!(error.code(), "io", "{error}");
        assert!(error.to_string().contains("No space left"), "{error}");
    }
    fs::remove_file(&ballast).unwrap();
    if result.is_err() {
        let mut again = resume(device, &config, &dir).unwrap();
        run(&mut again, &dir, 2).unwrap();
    }
    assert!(contents(&dir) == contents(whole), "room for {room}");
    fs::remove_dir_all(&dir).unwrap();
    result.is_ok()
}

#[test]
fn a_full_disk() {
    let seed = 3;
    let Some(disk) = std::env::var_os(CHILD) else {
        let dir = tempfile::tempdir().unwrap();
        let mount = "mount -t tmpfs -o size=2m none \"$MDLM_DISK_CHILD\" && exec \"$@\"";
        let program = [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            mount,
            "sh",
        ];
        child(&program, "a_full_disk", dir.path());
        return;
    };
    let count = trials("full disks", 20, seed);
    let whole = tempfile::tempdir().unwrap();
    start(Executor::CpuF32.shared(), &two_steps(), whole.path(), 2);
    let mut rng = Rng::new(seed, Stream::Shuffle, 0);
    let rooms = (0..count).map(|_| rng.below(500 << 10));
    let enough = rooms
        .filter(|&room| with_room(Path::new(&disk), whole.path(), room))
        .count();
    println!("{enough} of {count} had room enough; the others went on where they were");
    assert!(enough > 0 && enough < count as usize);
}

#[test]
fn a_folder_without_permission() {
    let device = Executor::CpuF32.shared();
    if let Some(dir) = std::env::var_os(CHILD) {
        let dir = Path::new(&dir);
        let mut trainer = resume(device, &two_steps(), dir).unwrap();
        let name = dir.to_str().unwrap();
        refused(
            run(&mut trainer, dir, 2),
            "io",
            &[name, "Permission denied"],
        );
        let inner = dir.join("inner");
        refused(
            run(&mut trainer, &inner, 2),
            "io",
            &["inner", "Permission denied"],
        );
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    start(device, &two_steps(), dir.path(), 1);
    let before = contents(dir.path());
    let allow = |mode| fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
    allow(0o555);
    // whoever may do everything gives that up
    let privileged = fs::write(dir.path().join("probe"), "").is_ok();
    let program: &[&str] = match privileged {
        true => &["setpriv", "--bounding-set=-all", "--inh-caps=-all"],
        false => &["env"],
    };
    if privileged {
        fs::remove_file(dir.path().join("probe")).unwrap();
    }
    child(program, "a_folder_without_permission", dir.path());
    allow(0o755);
    assert!(contents(dir.path()) == before);
}
