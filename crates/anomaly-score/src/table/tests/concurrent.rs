//! Several threads and processes on one file, processes killed in the middle, and a file system that refuses to write.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::*;

/// What a child process does; named by the environment, on the folder named there.
const JOB: &str = "ANOMALY_SCORE_TEST_JOB";
const FOLDER: &str = "ANOMALY_SCORE_TEST_FOLDER";

/// This test program again, running nothing but [`child`]. `shell` goes before it: commands of `sh`.
fn spawn(job: &str, folder: &Path, shell: &str) -> Child {
    let program = std::env::current_exe().unwrap();
    let arguments =
        ["--exact", "table::tests::concurrent::child", "--ignored", "--nocapture", "--test-threads=1"];
    let mut command = if shell.is_empty() {
        Command::new(program)
    } else {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{shell}; exec \"$0\" \"$@\"")]).arg(program);
        command
    };
    command.args(arguments).env(JOB, job).env(FOLDER, folder).stdout(Stdio::piped()).spawn().unwrap()
}

/// The lines the child printed for its parent.
fn reports(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    // The test harness writes `test … ` in front of the first line.
    BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(|line| line.ok())
        .filter_map(|line| line.split_once("report: ").map(|(_, rest)| rest.to_owned()))
}

fn report(text: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "report: {text}").unwrap();
    out.flush().unwrap();
}

#[test]
#[ignore = "run by the other tests of this file, as a process of its own"]
fn child() {
    let (Ok(job), Some(folder)) = (std::env::var(JOB), std::env::var_os(FOLDER)) else { return };
    let folder = Path::new(&folder);
    let output = folder.join("t.parquet");
    match job.as_str() {
        "fill the cache from 0" => fill_cache(folder, 0),
        "fill the cache from 100" => fill_cache(folder, 100),
        "fill the cache from 200" => fill_cache(folder, 200),
        "append until killed" => {
            let mut writer = Writer::create(Some(&output), settings(), None).unwrap();
            for i in writer.recovered().rows as u32.. {
                writer.append(&row(i)).unwrap();
                report(i);
            }
        }
        "append until the disk is full" => {
            let mut writer = Writer::create(Some(&output), settings(), None).unwrap();
            for i in 0.. {
                if let Err(e) = writer.append(&row(i)) {
                    report(e);
                    report(i);
                    break;
                }
            }
            // The place that is left is not enough for the table either.
            report(writer.finish().unwrap_err());
        }
        "name the folder of the cache" => report(Cache::default_folder().unwrap().display()),
        other => panic!("no such job: {other}"),
    }
}

/// Inserts 300 measurements beginning with the `first`: each worker another, since two that write the same record at
/// the same place would not show it. Starts when the file `go` is there.
fn fill_cache(folder: &Path, first: u32) {
    let mut cache = Cache::open(folder, &settings()).unwrap();
    while !folder.join("go").exists() {
        std::thread::yield_now();
    }
    for i in 0..300 {
        let measurement = long_measurement((first + i) % 300);
        cache.insert(&measurement).unwrap();
        assert_eq!(cache.get(&measurement.scores.content_hash).unwrap().unwrap(), measurement);
    }
}

/// Long enough for writing it to take a while: 40 KB.
fn long_measurement(i: u32) -> Measurement {
    let mut measurement = row(i).measurement;
    measurement.feature = (0..10_000).map(|k| (i * k) as f32).collect();
    measurement
}

fn check_filled_once(folder: &Path) {
    let cache = Cache::open(folder, &settings()).unwrap();
    assert_eq!(cache.len(), 300);
    for i in 0..300 {
        let measurement = long_measurement(i);
        assert_eq!(cache.get(&measurement.scores.content_hash).unwrap().unwrap(), measurement);
    }
    let alone = tempfile::tempdir().unwrap();
    fs::write(alone.path().join("go"), b"").unwrap();
    fill_cache(alone.path(), 0);
    let expected = Cache::open(alone.path(), &settings()).unwrap();
    let len = |cache: &Cache| fs::metadata(cache.path()).unwrap().len();
    assert_eq!(len(&cache), len(&expected), "a measurement was kept twice");
}

#[test]
fn threads_share_a_cache() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let folder = dir.path();
            scope.spawn(move || fill_cache(folder, worker * 75));
        }
        fs::write(dir.path().join("go"), b"").unwrap();
    });
    check_filled_once(dir.path());
}

#[test]
fn processes_share_a_cache() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = ["fill the cache from 0", "fill the cache from 100", "fill the cache from 200"];
    let children: Vec<Child> = jobs.iter().map(|job| spawn(job, dir.path(), "")).collect();
    fs::write(dir.path().join("go"), b"").unwrap();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    check_filled_once(dir.path());
}

#[test]
fn every_row_acknowledged_before_a_kill_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut known = 0;
    for round in 1..=8 {
        let mut child = spawn("append until killed", dir.path(), "");
        let mut reports = reports(&mut child);
        for _ in 0..round * 37 {
            known = reports.next().unwrap().parse::<usize>().unwrap() + 1;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        known = reports.last().map_or(known, |last| last.parse::<usize>().unwrap() + 1);
    }
    let output = dir.path().join("t.parquet");
    let mut writer = Writer::create(Some(&output), settings(), None).unwrap();
    let n = writer.recovered().rows;
    // One row more may have been written than the last the child could tell of.
    assert!(n == known || n == known + 1, "{known} acknowledged, {n} found");
    for i in 0..n as u32 {
        let hash = row(i).measurement.scores.content_hash;
        assert_eq!(writer.find(&row(i).path, &hash).unwrap(), Known::Journal);
    }
    let table = writer.finish().unwrap();
    let mut expected: Vec<Row> = (0..n as u32).map(row).collect();
    expected.sort_by(|a, b| a.path.cmp(&b.path));
    assert_eq!(rows_of(&table), expected);
}

#[cfg(target_os = "linux")]
#[test]
fn the_cache_is_where_the_environment_says() {
    for (environment, expected) in [
        ("ANOMALY_SCORE_CACHE=/a/b", "/a/b"),
        ("ANOMALY_SCORE_CACHE= XDG_CACHE_HOME=/c", "/c/anomaly-score/measurements"),
        ("ANOMALY_SCORE_CACHE= XDG_CACHE_HOME= HOME=/h", "/h/.cache/anomaly-score/measurements"),
    ] {
        let shell = format!("export {environment}");
        let mut child = spawn("name the folder of the cache", Path::new(""), &shell);
        assert_eq!(reports(&mut child).collect::<Vec<_>>(), [expected], "{environment}");
        assert!(child.wait().unwrap().success());
    }
}

/// A limit on the size of files stands for a full disk: it too fails a write in the middle.
#[cfg(unix)]
#[test]
fn a_full_disk_loses_no_row() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("t.parquet");
    let partial = dir.path().join("t.parquet.partial");
    fs::write(&output, b"an older table").unwrap();
    // 8 blocks of 512 or 1024 bytes, depending on the shell; a table is longer than its journal at this size.
    let mut child = spawn("append until the disk is full", dir.path(), "trap '' XFSZ; ulimit -f 8");
    let mut reports = reports(&mut child);
    let mut next = || reports.next().unwrap().replace(&dir.path().display().to_string(), "DIR");
    let (append, n, finish) = (next(), next().parse::<u32>().unwrap(), next());
    assert!(child.wait().unwrap().success());
    assert!(append.starts_with("DIR/t.parquet.partial: cannot be written to (File too large"), "{append}");
    assert!(finish.starts_with("DIR/t.parquet: cannot be written (File too large"), "{finish}");
    for e in [append, finish] {
        let kept = format!("run the same command again: the {n} rows measured so far are kept");
        assert!(e.ends_with(&kept), "{e}");
    }
    assert!(n > 10, "{n} rows fitted");
    assert_eq!(fs::read(&output).unwrap(), b"an older table");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "an unfinished file was left");
    assert!(partial.exists());

    let mut writer = Writer::create(Some(&output), settings(), None).unwrap();
    assert_eq!(writer.recovered(), Recovered { rows: n as usize, cut_bytes: 0 });
    for i in 0..n {
        let hash = row(i).measurement.scores.content_hash;
        assert_eq!(writer.find(&row(i).path, &hash).unwrap(), Known::Journal);
    }
    assert_eq!(rows_of(&writer.finish().unwrap()), (0..n).map(row).collect::<Vec<_>>());
}
