fn main() {
    let g = |n: &str| {
        std::fs::read(format!("{}/../tests/vectors/genuine/snp/{n}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    use tsmsim_evidence::*;
    let b = snp::Bundle {
        report: g("milan-report.bin"),
        ark: Some(g("ark.der")),
        ask: Some(g("ask.der")),
        vcek: Some(g("milan-vcek.der")),
        ..Default::default()
    };
    let p = snp::Policy { allow_debug: true, ..snp::Policy::at(Timestamp(1748736000)) };
    let t = std::time::Instant::now();
    for _ in 0..1000 {
        assert!(snp::verify(&b, &p).accepted());
    }
    println!("{:?}", t.elapsed() / 1000);
}
