//! `dagger-generator NORMAL EARLY LATE`: see systemd.generator(7).
fn main() {}
