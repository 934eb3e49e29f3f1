//! Keeps history in a file, from a thread of its own: a volume that hangs holds nobody.
//!
//! The file is replaced as a whole (written beside, then renamed), at most every
//! [`EVERY`] and once more at the end. It is one line of JSON and one with its checksum. A
//! file that does not hold what it says, or is of something else, is named in the log and set
//! aside; where nothing can be written, history stays in memory, and the log says so once.
//!
//! Two replicas may have one volume: what the other one wrote since is read before writing.

use std::{
    collections::hash_map::RandomState,
    fs::{self, File},
    hash::BuildHasher as _,
    io::{ErrorKind, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use serde::{Deserialize, Serialize};
use stornx_core::units::Timestamp;
use thiserror::Error;

use super::history::{History, Point};

/// Least time between two writes: what a crash costs at most.
const EVERY: Duration = Duration::from_secs(30);
/// No history is larger by far.
const LARGEST: u64 = 8 << 20;
const FORMAT: &str = "stornx-history/v1";

/// What keeps a file from being read.
#[derive(Debug, Error)]
pub(crate) enum FileError {
    /// The system says no.
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    /// It is no history, or not a whole one.
    #[error("{path}: {what}")]
    Foreign { path: String, what: String },
}

#[derive(Serialize, Deserialize)]
struct Content {
    format: String,
    points: Vec<Point>,
}

/// The points of a file; none when there is no file.
pub(crate) fn read(path: &Path) -> Result<Vec<Point>, FileError> {
    let shown = || path.display().to_string();
    let foreign = |what: &str| FileError::Foreign { path: shown(), what: what.to_owned() };
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text));
    match read {
        Ok(size) if size as u64 > LARGEST => return Err(foreign("it is too large")),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            return Err(foreign("it is no text"));
        }
        Err(source) => return Err(FileError::Io { path: shown(), source }),
    }
    let (body, sum) = text.split_once('\n').ok_or_else(|| foreign("its end is missing"))?;
    if sum.trim_end() != checksum(body) {
        return Err(foreign("its checksum does not fit"));
    }
    let content: Content =
        serde_json::from_str(body).map_err(|error| foreign(&error.to_string()))?;
    if content.format != FORMAT {
        return Err(foreign(&format!("its format is {:?}, not {FORMAT:?}", content.format)));
    }
    Ok(content.points)
}

/// Replaces the file.
pub(crate) fn write(path: &Path, points: Vec<Point>) -> Result<(), FileError> {
    let failed = |source| FileError::Io { path: path.display().to_string(), source };
    let content = Content { format: FORMAT.to_owned(), points };
    let body = serde_json::to_string(&content).map_err(|error| failed(error.into()))?;
    let beside = with_suffix(path, &format!("new-{}", own()));
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(format!("{body}\n{}\n", checksum(&body)).as_bytes())?;
        file.sync_all()
    });
    let moved = written.and_then(|()| fs::rename(&beside, path));
    moved.map_err(|error| {
        // What could not be finished is not left; it may be the disk that is full.
        let _ = fs::remove_file(&beside);
        failed(error)
    })
}

/// Tells the files of this process from those of another one that writes here, which has
/// another host name and may have the same number.
fn own() -> String {
    static OWN: OnceLock<String> = OnceLock::new();
    let made = || {
        let seed = RandomState::new().hash_one(std::process::id());
        format!("{seed:016x}")
    };
    OWN.get_or_init(made).clone()
}

/// Takes away what processes that died while writing have left long ago.
fn tidy(path: &Path) {
    const OLD: Duration = Duration::from_secs(3600);
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return };
    let begins = format!("{}.new-", name.to_string_lossy());
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|data| data.modified()).map(|at| at.elapsed());
        let old = matches!(age, Ok(Ok(age)) if age > OLD);
        if old && entry.file_name().to_string_lossy().starts_with(&begins) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn checksum(text: &str) -> String {
    let mut sum = flate2::Crc::new();
    sum.update(text.as_bytes());
    format!("crc32 {:08x}", sum.sum())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Keeps history while it lives.
#[derive(Debug)]
pub(crate) struct Keeper {
    dirty: Option<SyncSender<()>>,
    ended: Receiver<()>,
    in_file: Arc<AtomicBool>,
}

impl Keeper {
    /// Begins to keep `history` in a file. What is there is read by the thread, too.
    pub(crate) fn start(path: PathBuf, history: Arc<Mutex<History>>) -> Self {
        let (dirty, is_dirty) = sync_channel(1);
        let (end, ended) = sync_channel(1);
        let in_file = Arc::<AtomicBool>::default();
        let mut writer =
            Writer { path, history, seen: None, in_file: in_file.clone(), said: false };
        thread::spawn(move || {
            writer.begin();
            writer.turn(&is_dirty);
            let _ = end.send(());
        });
        Self { dirty: Some(dirty), ended, in_file }
    }

    /// There is something new. Never waits.
    pub(crate) fn notify(&self) {
        if let Some(dirty) = &self.dirty {
            let _ = dirty.try_send(());
        }
    }

    /// Whether the file holds what was known when it was written last.
    pub(crate) fn in_file(&self) -> &Arc<AtomicBool> {
        &self.in_file
    }

    /// Writes once more, and waits for it, not for ever.
    pub(crate) fn end(&mut self, longest: Duration) {
        self.dirty = None;
        let _ = self.ended.recv_timeout(longest);
    }
}

struct Writer {
    path: PathBuf,
    history: Arc<Mutex<History>>,
    /// The file as it was last seen or written by us.
    seen: Option<SystemTime>,
    in_file: Arc<AtomicBool>,
    /// That it cannot be written has been said.
    said: bool,
}

impl Writer {
    fn begin(&mut self) {
        tidy(&self.path);
        // Said at the start, not with the first point: that is when somebody looks.
        self.keep();
    }

    /// Takes over what is there, then writes. What is there and cannot be read is not
    /// written over: it may be readable again.
    fn keep(&mut self) {
        match self.take_over() {
            Ok(()) => self.save(),
            Err(error) => {
                self.in_file.store(false, Ordering::Relaxed);
                self.say(&error);
            }
        }
    }

    fn turn(&mut self, is_dirty: &Receiver<()>) {
        while is_dirty.recv().is_ok() {
            self.keep();
            let until = Instant::now() + EVERY;
            let mut more = false;
            loop {
                match is_dirty.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(()) => more = true,
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) if more => {
                        return self.keep();
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            if more {
                self.keep();
            }
        }
    }

    /// Reads what somebody else has written, and sets aside what cannot be read.
    fn take_over(&mut self) -> Result<(), FileError> {
        let modified = match fs::metadata(&self.path).and_then(|data| data.modified()) {
            Ok(modified) => Some(modified),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(source) => {
                return Err(FileError::Io { path: self.path.display().to_string(), source });
            }
        };
        if modified == self.seen {
            return Ok(());
        }
        match read(&self.path) {
            Ok(points) => {
                tracing::info!(file = %self.path.display(), points = points.len(), "history goes on");
                self.history.lock().unwrap_or_else(PoisonError::into_inner).merge(points);
            }
            Err(error @ FileError::Foreign { .. }) => {
                let aside = with_suffix(&self.path, "aside");
                match fs::rename(&self.path, &aside) {
                    Ok(()) => tracing::warn!(
                        aside = %aside.display(),
                        "history begins anew, the file is set aside: {error}"
                    ),
                    Err(refused) => tracing::warn!(
                        "history begins anew, and the file cannot be set aside ({refused}): {error}"
                    ),
                }
            }
            Err(error @ FileError::Io { .. }) => return Err(error),
        }
        self.seen = modified;
        Ok(())
    }

    fn save(&mut self) {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let points = history.since(Timestamp::default()).points;
        drop(history);
        match write(&self.path, points) {
            Ok(()) => {
                self.seen = fs::metadata(&self.path).and_then(|data| data.modified()).ok();
                self.in_file.store(true, Ordering::Relaxed);
                if std::mem::take(&mut self.said) {
                    tracing::info!(file = %self.path.display(), "history is written again");
                }
            }
            Err(error) => {
                self.in_file.store(false, Ordering::Relaxed);
                self.say(&error);
            }
        }
    }

    fn say(&mut self, error: &FileError) {
        if !std::mem::replace(&mut self.said, true) {
            tracing::warn!("history is kept in memory only: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use stornx_core::units::Span;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn point(at: u64) -> Point {
        Point { at: Timestamp::from_millis(at), cycles: 1, p95_ms: Some(12.5), ..Point::default() }
    }

    fn history(points: &[u64]) -> Arc<Mutex<History>> {
        let mut history = History::new(Span::from_seconds(3600));
        points.iter().for_each(|at| history.push(point(*at)));
        Arc::new(Mutex::new(history))
    }

    fn known(history: &Arc<Mutex<History>>) -> Vec<u64> {
        let points = history.lock().unwrap().since(Timestamp::default()).points;
        points.iter().map(|point| point.at.as_millis()).collect()
    }

    #[test]
    fn what_was_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.json");
        assert!(read(&path).unwrap().is_empty());
        write(&path, vec![point(1), point(2)]).unwrap();
        assert_eq!(read(&path).unwrap(), [point(1), point(2)]);
    }

    #[test]
    fn history_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.json");
        let first = history(&[10]);
        let mut keeper = Keeper::start(path.clone(), first.clone());
        first.lock().unwrap().push(point(20));
        keeper.notify();
        keeper.end(LONG);
        let second = history(&[]);
        let mut keeper = Keeper::start(path, second.clone());
        keeper.end(LONG);
        assert_eq!(known(&second), [10, 20]);
        assert!(keeper.in_file().load(Ordering::Relaxed));
    }

    #[test]
    fn a_torn_or_foreign_file_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.json");
        write(&path, vec![point(1), point(2)]).unwrap();
        let whole = fs::read(&path).unwrap();
        let foreign: Vec<Vec<u8>> = vec![
            whole[..whole.len() / 2].to_vec(),
            whole[..whole.len() - 3].to_vec(),
            b"kubeconfig: yes\n".to_vec(),
            vec![0xff, 0xfe, 0x00],
            Vec::new(),
        ];
        for bytes in foreign {
            fs::write(&path, &bytes).unwrap();
            assert!(matches!(read(&path), Err(FileError::Foreign { .. })), "{bytes:?}");
            let history = history(&[]);
            let mut keeper = Keeper::start(path.clone(), history.clone());
            keeper.end(LONG);
            assert_eq!(fs::read(with_suffix(&path, "aside")).unwrap(), bytes);
            assert!(read(&path).unwrap().is_empty());
            assert!(known(&history).is_empty());
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.json");
        // A folder in its place: the system refuses to read it, also for root.
        fs::create_dir(&path).unwrap();
        let history = history(&[10]);
        let mut keeper = Keeper::start(path.clone(), history.clone());
        keeper.notify();
        keeper.end(LONG);
        assert!(path.is_dir() && !keeper.in_file().load(Ordering::Relaxed));
        // It can be read again: both go on.
        fs::remove_dir(&path).unwrap();
        write(&path, vec![point(5)]).unwrap();
        let mut keeper = Keeper::start(path.clone(), history.clone());
        keeper.notify();
        keeper.end(LONG);
        let points: Vec<_> = read(&path).unwrap().iter().map(|p| p.at.as_millis()).collect();
        assert_eq!(points, [5, 10]);
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 1, "nothing is left beside it");
    }

    #[test]
    fn where_nothing_can_be_written_it_stays_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        // A file in the place of the folder: also root cannot write there.
        let no_folder = folder.path().join("file");
        fs::write(&no_folder, "").unwrap();
        let history = history(&[5]);
        let mut keeper = Keeper::start(no_folder.join("history.json"), history.clone());
        keeper.notify();
        keeper.end(LONG);
        assert!(!keeper.in_file().load(Ordering::Relaxed));
        assert_eq!(known(&history), [5]);
    }
}
