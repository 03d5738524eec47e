//! Generates the messages (and, with feature "grpc", services and the descriptor set) from the `.proto`
//! files with protox, a protobuf compiler in Rust: no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    const FILES: [&str; 5] = [
        "doorward/v1/bundle.proto",
        "doorward/v1/policy.proto",
        "doorward/v1/audit.proto",
        "doorward/v1/admin.proto",
        "doorward/v1/identity.proto",
    ];
    // Its Debug is written by hand, without the token.
    const SECRET: &str = ".doorward.v1.IntrospectRequest";
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    if env::var_os("CARGO_FEATURE_GRPC").is_some() {
        fs::write(out.join("descriptors.bin"), prost_build_bytes(&descriptors))?;
        tonic_prost_build::configure()
            .codec_path("crate::codec::BoundedCodec")
            .skip_debug([SECRET])
            .compile_fds(descriptors)?;
    } else {
        tonic_prost_build::configure()
            .build_client(false)
            .build_server(false)
            .skip_debug([SECRET])
            .compile_fds(descriptors)?;
    }
    Ok(())
}

fn prost_build_bytes(descriptors: &impl prost::Message) -> Vec<u8> {
    descriptors.encode_to_vec()
}
