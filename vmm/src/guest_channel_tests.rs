use proptest::prelude::*;
use rstest::rstest;
use tempfile::TempDir;
use tsmsim_abi::guest_channel::{MAX_FRAME, encode};
use zerocopy::IntoBytes;

use super::*;

/// Makes frames with their numbers.
#[derive(Default)]
struct Guest {
    bytes: Vec<u8>,
    sequence: u32,
}

impl Guest {
    fn frame(&mut self, kind: FrameType, payload: &[u8]) -> &mut Self {
        let mut buffer = [0; MAX_FRAME];
        let length = encode(kind, self.sequence, payload, &mut buffer).unwrap();
        self.bytes.extend_from_slice(&buffer[..length]);
        self.sequence += 1;
        self
    }

    fn begin(&mut self, path: &[u8], mode: u32, size: u64) -> &mut Self {
        let header = FileHeader { mode: mode.into(), size: size.into() };
        self.frame(FrameType::FILE, &[header.as_bytes(), path].concat())
    }

    fn file(&mut self, path: &[u8], contents: &[u8]) -> &mut Self {
        self.begin(path, 0o644, contents.len().try_into().unwrap());
        for piece in contents.chunks(1000) {
            self.frame(FrameType::FILE_DATA, piece);
        }
        self
    }

    fn exit(&mut self, status: u32) -> &mut Self {
        self.frame(FrameType::EXIT, ExitStatus { status: status.into() }.as_bytes())
    }

    fn received(&self, out: Option<&Path>, limits: Limits) -> ChannelReport {
        let mut channel = GuestChannel::new(out, limits);
        for piece in self.bytes.chunks(777) {
            channel.push(piece, &mut |_| {});
        }
        channel.finish()
    }
}

/// All files below a directory, with their contents.
fn tree(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found.push((path.strip_prefix(root).unwrap().to_path_buf(), fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn out() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn words_status_and_files() {
    let out = out();
    let mut guest = Guest::default();
    guest.frame(FrameType::HELLO, b"").frame(FrameType::STDOUT, b"out").frame(FrameType::STDERR, b"err");
    guest.frame(FrameType::LOG, b"log").file(b"a", b"").file(b"d/e/f", &[7; 2500]).exit(3);
    let mut heard = Vec::new();
    let mut channel = GuestChannel::new(Some(out.path()), Limits::default());
    channel.push(&guest.bytes, &mut |said| heard.push(format!("{said:?}")));
    assert_eq!(channel.status(), Some(3));
    let report = channel.finish();
    assert_eq!(heard[0], "Hello");
    assert_eq!(heard.len(), 5);
    assert_eq!(heard[4], "Exit(3)");
    let files = vec![PathBuf::from("a"), PathBuf::from("d/e/f")];
    assert_eq!(report, ChannelReport { hello: true, status: Some(3), files, problems: Vec::new() });
    assert_eq!(tree(out.path()), [("a".into(), vec![]), ("d/e/f".into(), vec![7; 2500])]);
}

#[rstest]
#[case::upwards(b"../x")]
#[case::upwards_within(b"a/../../x")]
#[case::absolute(b"/x")]
#[case::here(b"./x")]
#[case::empty(b"")]
#[case::empty_part(b"a//x")]
#[case::directory(b"a/")]
#[case::zero(b"a\0b")]
#[case::too_deep(b"1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17")]
#[case::long_name(&[b'x'; 256])]
fn paths_that_are_refused(#[case] path: &[u8]) {
    let place = out();
    let out = place.path().join("out");
    let report = Guest::default()
        .file(path, b"evil")
        .file(b"good", b"1")
        .exit(0)
        .received(Some(&out), Limits::default());
    assert_eq!((report.files.len(), report.problems.len(), report.status), (1, 1, Some(0)));
    assert_eq!(tree(place.path()), [("out/good".into(), b"1".to_vec())]);
}

#[rstest]
#[case::directory("link/x")]
#[case::file("link")]
fn links_are_not_followed(#[case] path: &str) {
    let (out, elsewhere) = (out(), out());
    fs::write(elsewhere.path().join("x"), b"old").unwrap();
    let target = if path == "link" { elsewhere.path().join("x") } else { elsewhere.path().to_path_buf() };
    std::os::unix::fs::symlink(target, out.path().join("link")).unwrap();
    let report = Guest::default().file(path.as_bytes(), b"new").received(Some(out.path()), Limits::default());
    assert_eq!(fs::read(elsewhere.path().join("x")).unwrap(), b"old");
    // A link in the place of the file itself is replaced.
    assert_eq!(report.files.len(), usize::from(path == "link"));
}

#[rstest]
#[case::one_too_many(Limits { files: 1, ..Limits::default() }, 1)]
#[case::too_large(Limits { bytes: 9, ..Limits::default() }, 1)]
#[case::exactly(Limits { files: 2, bytes: 10, depth: 1 }, 2)]
fn limits_hold(#[case] limits: Limits, #[case] files: usize) {
    let out = out();
    let report =
        Guest::default().file(b"a", b"12345").file(b"b", b"67890").received(Some(out.path()), limits);
    assert_eq!(tree(out.path()).len(), files);
    assert_eq!(report.problems.len(), 2 - files);
}

#[rstest]
#[case::unfinished(|guest: &mut Guest| { guest.begin(b"a", 0o644, 10).frame(FrameType::FILE_DATA, b"12345"); })]
#[case::too_much(|guest: &mut Guest| { guest.begin(b"a", 0o644, 3).frame(FrameType::FILE_DATA, b"12345"); })]
#[case::another(|guest: &mut Guest| { guest.begin(b"a", 0o644, 3).begin(b"b", 0o644, 3); })]
#[case::a_gap(|guest: &mut Guest| {
    guest.begin(b"a", 0o644, 5);
    guest.sequence += 1;
    guest.frame(FrameType::FILE_DATA, b"12345");
})]
fn half_files_are_not_kept(#[case] talk: fn(&mut Guest)) {
    let out = out();
    let mut guest = Guest::default();
    talk(&mut guest);
    let report = guest.exit(0).received(Some(out.path()), Limits::default());
    assert_eq!(report.files, Vec::<PathBuf>::new());
    assert!(!report.problems.is_empty());
    assert_eq!(tree(out.path()), []);
}

#[test]
fn without_a_directory_files_are_passed_over() {
    let report = Guest::default().file(b"a", b"1").exit(0).received(None, Limits::default());
    assert_eq!(report, ChannelReport { status: Some(0), ..ChannelReport::default() });
}

#[test]
fn modes_give_nobody_else_a_pen() {
    let out = out();
    let mut guest = Guest::default();
    guest.begin(b"a", 0o7777, 0).begin(b"b", 0, 0);
    guest.received(Some(out.path()), Limits::default());
    let mode = |name| fs::metadata(out.path().join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("a"), mode("b")), (0o755, 0o600));
}

#[test]
fn problems_are_bounded() {
    let out = out();
    let mut guest = Guest::default();
    for _ in 0..1000 {
        guest.begin(b"..", 0, 0);
    }
    assert_eq!(guest.received(Some(out.path()), Limits::default()).problems.len(), MAX_PROBLEMS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_frames_stay_below_the_directory(
        frames in proptest::collection::vec((0_u8..9, proptest::collection::vec(any::<u8>(), 0..40), any::<bool>()), 0..30),
        path in "[./a-c\0]{0,12}",
    ) {
        let place = out();
        let out = place.path().join("out");
        let mut guest = Guest::default();
        for (kind, payload, named) in frames {
            if named {
                guest.begin(path.as_bytes(), 0o644, u64::from(kind));
            } else {
                guest.frame(FrameType(kind), &payload);
            }
        }
        let report = guest.received(Some(&out), Limits { files: 5, bytes: 100, depth: 3 });
        let all = tree(place.path());
        prop_assert!(all.iter().all(|(path, _)| path.starts_with("out")));
        prop_assert!(all.iter().map(|(_, contents)| contents.len()).sum::<usize>() <= 100);
        prop_assert!(all.len() <= report.files.len());
    }
}
