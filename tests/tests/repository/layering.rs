//! The layers of `docs/architecture.md` against `cargo metadata` and the directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use cargo_metadata::{CargoOpt, DependencyKind, Metadata, MetadataCommand};
use rstest::rstest;
use tsmsim_tests::workspace;

use crate::{markdown, source};

/// Crates below the virtual machine monitor that must not drag in hypervisors, runtimes, servers.
const PURE: [&str; 4] = ["tsmsim-abi", "tsmsim-keys", "tsmsim-simulator", "tsmsim-evidence"];
/// Such crates, by the beginnings of their names.
const FORBIDDEN: [&str; 10] = [
    "kvm-",
    "vm-memory",
    "vm-superio",
    "vmm-sys-util",
    "linux-loader",
    "fuser",
    "tokio",
    "hyper",
    "async-std",
    "smol",
];
/// The standard library's doors to the outside.
const IO: [&str; 10] = [
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
    "std::os",
    "SystemTime",
    "Instant",
    "println",
    "eprintln",
];

/// What a directory's code may depend on.
#[derive(PartialEq, Eq, Debug)]
enum Allowed {
    All,
    Only(BTreeSet<String>),
}

type Layers = BTreeMap<String, Allowed>;

/// A member of the workspace: its package, its top-level directory, and those of the members that it depends on.
#[derive(Debug)]
struct Member {
    package: String,
    entry: String,
    dependencies: BTreeSet<String>,
}

/// Reads the table.
fn layers(page: &str) -> Layers {
    let rows = markdown::table(page, ["entry", "may depend on"]).expect("the page has the table of layers");
    let allowed = |cell: &str| match cell {
        "all" => Allowed::All,
        "–" => Allowed::Only(BTreeSet::new()),
        list => Allowed::Only(list.split(", ").map(str::to_owned).collect()),
    };
    rows.into_iter().map(|[entry, cell]| (entry.trim_end_matches('/').to_owned(), allowed(&cell))).collect()
}

/// Everything that is wrong, each in a sentence.
fn violations(layers: &Layers, members: &[Member], directories: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    wrong.extend(
        layers
            .keys()
            .filter(|entry| !directories.contains(entry))
            .map(|entry| format!("{entry}/ is listed but does not exist")),
    );
    wrong.extend(
        directories
            .iter()
            .filter(|name| !layers.contains_key(*name))
            .map(|name| format!("{name}/ is not listed")),
    );
    for (entry, allowed) in layers {
        let Allowed::Only(names) = allowed else { continue };
        wrong.extend(
            names
                .iter()
                .filter(|name| !layers.contains_key(*name))
                .map(|name| format!("{entry}/ may depend on {name}, which is not listed")),
        );
    }
    for Member { package, entry, dependencies } in members {
        let Some(Allowed::Only(names)) = layers.get(entry) else { continue };
        let excess =
            dependencies.iter().filter(|dependency| *dependency != entry && !names.contains(*dependency));
        wrong.extend(
            excess.map(|dependency| format!("{package} in {entry}/ must not depend on {dependency}/")),
        );
    }
    wrong
}

/// Everything reachable from a crate, itself included, in a graph by names.
fn reachable(graph: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(name) = open.pop() {
        if seen.insert(name.clone()) {
            open.extend(graph.get(&name).into_iter().flatten().cloned());
        }
    }
    seen
}

/// The forbidden ones among crates.
fn forbidden(crates: &BTreeSet<String>) -> Vec<&String> {
    crates.iter().filter(|name| FORBIDDEN.iter().any(|prefix| name.starts_with(prefix))).collect()
}

/// The lines of code that open a door to the outside.
fn io(text: &str) -> Vec<&str> {
    let named = |line: &str| {
        IO.iter()
            .any(|door| if door.contains("::") { line.contains(door) } else { source::has_word(line, door) })
    };
    source::code(text).filter(|line| named(line)).collect()
}

/// Whether the root of a crate gives up the standard library, for all but its unit tests.
fn is_no_std(root: &str) -> bool {
    let lines: Vec<&str> = source::code(root).map(str::trim).collect();
    let taken_back =
        lines.windows(2).any(|pair| pair[1].starts_with("extern crate std") && pair[0] != "#[cfg(test)]");
    lines.contains(&"#![no_std]") && !taken_back
}

/// The workspace as cargo sees it on this machine; crates of other systems need not be downloaded for it.
fn metadata() -> Metadata {
    let rustc = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let version = String::from_utf8(rustc.stdout).expect("its answer is text");
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("it names the host");
    MetadataCommand::new()
        .manifest_path(workspace::root().join("Cargo.toml"))
        .features(CargoOpt::AllFeatures)
        .other_options(["--filter-platform".to_owned(), host.to_owned()])
        .exec()
        .expect("cargo metadata runs")
}

/// The members, with what their code (not their tests) depends on.
fn members(metadata: &Metadata) -> Vec<Member> {
    let entry = |path: &cargo_metadata::camino::Utf8Path| {
        let inside = path.strip_prefix(&metadata.workspace_root).ok()?;
        inside.components().next().map(|first| first.as_str().to_owned())
    };
    let packages = metadata.workspace_packages();
    packages
        .iter()
        .map(|package| {
            let code = package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind != DependencyKind::Development);
            Member {
                package: package.name.to_string(),
                entry: entry(&package.manifest_path).expect("members are inside the workspace"),
                dependencies: code.filter_map(|dependency| entry(dependency.path.as_deref()?)).collect(),
            }
        })
        .collect()
}

/// The graph of all crates, without dependencies of tests. Versions of one crate are taken together.
fn graph(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let name = |id: &cargo_metadata::PackageId| metadata[id].name.to_string();
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in &metadata.resolve.as_ref().expect("it was resolved").nodes {
        let in_code = |kinds: &[cargo_metadata::DepKindInfo]| {
            kinds.iter().any(|kind| kind.kind != DependencyKind::Development)
        };
        let dependencies = node.deps.iter().filter(|dependency| in_code(&dependency.dep_kinds));
        graph.entry(name(&node.id)).or_default().extend(dependencies.map(|dependency| name(&dependency.pkg)));
    }
    graph
}

#[test]
fn the_table_and_the_workspace_agree() {
    let page = fs::read_to_string(workspace::root().join("docs/architecture.md")).expect("the page exists");
    let wrong = violations(&layers(&page), &members(&metadata()), &source::top_level());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn pure_crates_need_no_hypervisor() {
    let graph = graph(&metadata());
    for name in PURE {
        assert!(graph.contains_key(name), "there is no crate {name}");
        let found = reachable(&graph, name);
        assert!(forbidden(&found).is_empty(), "{name} needs {:?}", forbidden(&found));
    }
    // The check sees what it is to see: the monitor does need KVM.
    assert!(!forbidden(&reachable(&graph, "tsmsim-vmm")).is_empty(), "tsmsim-vmm needs no KVM?");
}

#[test]
fn the_firmware_and_the_judge_do_no_io() {
    for file in
        ["simulator/src", "evidence/src"].iter().flat_map(|directory| source::sources(directory, &[".rs"]))
    {
        assert!(io(&file.text).is_empty(), "{}: {:?}", file.path, io(&file.text));
    }
}

#[test]
fn wire_formats_are_no_std() {
    let text = fs::read_to_string(workspace::root().join("abi/src/lib.rs")).expect("abi has a root");
    assert!(is_no_std(&text), "abi must be no_std, except in its unit tests");
}

const PAGE: &str = "| entry | what | may depend on |\n|---|---|---|\n| `low/` | x | – |\n| `high/` | y | low |\n| `tests/` | z | all |\n";

fn made_up(package: &str, entry: &str, dependencies: &[&str]) -> Member {
    let dependencies = dependencies.iter().map(|&name| name.to_owned()).collect();
    Member { package: package.to_owned(), entry: entry.to_owned(), dependencies }
}

#[test]
fn a_sound_workspace_is_accepted() {
    let members =
        [made_up("l", "low", &[]), made_up("h", "high", &["low"]), made_up("t", "tests", &["low", "high"])];
    let directories = ["low", "high", "tests"].map(str::to_owned);
    assert_eq!(violations(&layers(PAGE), &members, &directories), Vec::<String>::new());
}

#[rstest]
#[case::upward(made_up("l", "low", &["high"]), &["low", "high", "tests"], "l in low/ must not depend on high/")]
#[case::missing(made_up("l", "low", &[]), &["low", "tests"], "high/ is listed but does not exist")]
#[case::unlisted(made_up("l", "low", &[]), &["low", "high", "tests", "new"], "new/ is not listed")]
fn a_violation_is_found(#[case] member: Member, #[case] directories: &[&str], #[case] sentence: &str) {
    let directories: Vec<String> = directories.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(violations(&layers(PAGE), &[member], &directories), [sentence]);
}

#[test]
fn an_unknown_layer_in_the_table_is_found() {
    let page = PAGE.replace("| low |", "| depth |");
    let directories = ["low", "high", "tests"].map(str::to_owned);
    assert_eq!(
        violations(&layers(&page), &[], &directories),
        ["high/ may depend on depth, which is not listed"]
    );
}

#[test]
fn a_hypervisor_is_found_however_deep() {
    let edges = [("simulator", "helper"), ("helper", "kvm-ioctls"), ("kvm-ioctls", "helper")];
    let graph = edges.map(|(from, to)| (from.to_owned(), BTreeSet::from([to.to_owned()]))).into();
    assert_eq!(forbidden(&reachable(&graph, "simulator")), ["kvm-ioctls"]);
    assert!(forbidden(&reachable(&graph, "other")).is_empty());
}

#[test]
fn a_door_to_the_outside_is_found() {
    let text = "// std::fs in a comment\nuse core::time::Duration;\nlet now = SystemTime::now();\n\n#[cfg(test)]\nmod tests {\nuse std::fs;\n}\n";
    assert_eq!(io(text), ["let now = SystemTime::now();"]);
}

#[rstest]
#[case::plain("//! Docs.\n#![no_std]\nmod a;\n", true)]
#[case::std_for_tests("#![no_std]\n\n#[cfg(test)]\nextern crate std;\nmod a;\n", true)]
#[case::not_said("//! A crate that is #![no_std].\nmod a;\n", false)]
#[case::taken_back("#![no_std]\nextern crate std;\nmod a;\n", false)]
#[case::conditional("#![cfg_attr(not(feature = \"std\"), no_std)]\nmod a;\n", false)]
fn giving_up_std_is_judged(#[case] root: &str, #[case] no_std: bool) {
    assert_eq!(is_no_std(root), no_std);
}
