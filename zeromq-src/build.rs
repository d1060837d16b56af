//! Hands the folders of the libsodium just built on to the library, as compile-time variables.

fn main() {
    for name in ["DEP_SODIUM_INCLUDE", "DEP_SODIUM_LIB"] {
        let folder = std::env::var(name)
            .unwrap_or_else(|_| panic!("libsodium-sys-stable did not set {name}"));
        println!("cargo:rustc-env={name}={folder}");
        println!("cargo:rerun-if-env-changed={name}");
    }
}
