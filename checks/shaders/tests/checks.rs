//! The checks accept good shaders and reject bad ones, so that a pass means something.

use mdlm_shader_checks::external::{SPIRV_VAL, TINT, spirv_bytes};
use mdlm_shader_checks::{check_limits, translate};

const DOUBLE: &str = "
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
var<workgroup> tile: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    tile[lane] = x[id.x];
    workgroupBarrier();
    y[id.x] = 2.0 * tile[63u - lane];
}
";

#[test]
fn a_good_shader_passes() {
    let translation = translate(DOUBLE).unwrap();
    assert_eq!(
        translation.spirv[0], 0x0723_0203,
        "the magic number of SPIR-V"
    );
    assert!(translation.msl.contains("kernel void"));
    assert!(translation.hlsl.contains("[numthreads(64, 1, 1)]"));
    check_limits(DOUBLE).unwrap();
    translate(&format!("enable f16;\n{DOUBLE}").replace("f32", "f16")).unwrap();
}

#[test]
fn mistakes_are_found() {
    let broken = [
        (
            "a syntax error",
            DOUBLE.replace("let", "lot").replace("fn main", "fun main"),
        ),
        ("a type error", DOUBLE.replace("2.0 *", "2u *")),
        ("an extension", DOUBLE.replace("f32", "f64")),
        ("f16 that is not enabled", DOUBLE.replace("f32", "f16")),
        ("nothing to run", "fn f() {}".to_owned()),
    ];
    for (what, wgsl) in broken {
        assert!(translate(&wgsl).is_err(), "{what} was accepted");
    }
}

#[test]
fn core_limits_are_checked() {
    let check = |from: &str, to: &str| check_limits(&DOUBLE.replace(from, to)).unwrap_err();
    assert!(check("workgroup_size(64)", "workgroup_size(512)").contains("512 invocations"));
    assert!(check("array<f32, 64>", "array<f32, 4097>").contains("16388 bytes"));

    let buffers: String = (2..9)
        .map(|b| format!("@group(0) @binding({b}) var<storage, read> b{b}: array<f32>;\n"))
        .collect();
    check_limits(&format!("{buffers}{DOUBLE}")).expect("unused buffers do not count");
    let sum = (2..9).map(|b| format!("b{b}[0] + ")).collect::<String>();
    let used = format!(
        "{buffers}{}",
        DOUBLE.replace("2.0 *", &format!("{sum} 2.0 *"))
    );
    assert!(
        check_limits(&used)
            .unwrap_err()
            .contains("9 storage buffers")
    );
}

#[test]
fn installed_tools_tell_good_from_bad() {
    let scratch = tempfile::tempdir().unwrap();
    let spirv = spirv_bytes(&translate(DOUBLE).unwrap().spirv);
    // A barrier that not all invocations may reach is the browser's error alone.
    let divergent = DOUBLE.replace(
        "workgroupBarrier();",
        "if x[0] > y[0] { workgroupBarrier(); }",
    );
    translate(&divergent).expect("naga does not look for divergence");
    let cases = [
        (SPIRV_VAL, spirv.clone(), spirv[..spirv.len() - 4].to_vec()),
        (TINT, DOUBLE.into(), divergent.into_bytes()),
    ];
    for (tool, good, bad) in cases {
        if tool.installed() {
            tool.check(scratch.path(), &good).unwrap().unwrap();
            tool.check(scratch.path(), &bad)
                .unwrap()
                .expect_err(tool.name);
        }
    }
}
