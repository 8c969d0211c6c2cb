//! What must be readable for the kernel to start a program, beside nothing else.
//!
//! In: the file of a program. Out: itself; for a script its interpreter, too; for one that is linked dynamically the
//! loader and the folders of libraries.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Where loaders find libraries.
const LIBRARIES: [&str; 7] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/etc/ld.so.cache",
    "/etc/ld-musl-x86_64.path",
];
/// Scripts whose interpreter is a script.
const DEEPEST: usize = 4;
/// ELF's number of the program header that names the loader.
const INTERPRETER: u32 = 3;

/// The files and folders that it takes to start a program.
pub(super) fn loader(program: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = vec![program.to_owned()];
    let mut next = program.to_owned();
    for _ in 0..DEEPEST {
        let head = head(&next)?;
        if let Some(interpreter) = script(&head) {
            all.push(interpreter.clone());
            next = interpreter;
            continue;
        }
        if let Some(loader) = elf(&head) {
            all.push(loader);
            all.extend(LIBRARIES.map(PathBuf::from));
        }
        break;
    }
    Ok(all)
}

fn head(program: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(program)?.take(4096).read_to_end(&mut head)?;
    Ok(head)
}

/// The interpreter of a script.
fn script(head: &[u8]) -> Option<PathBuf> {
    let line = head
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let mut words = line.split(|byte| byte.is_ascii_whitespace());
    let interpreter = words.find(|word| !word.is_empty())?;
    Some(PathBuf::from(OsStr::from_bytes(interpreter)))
}

/// The loader that a 64-bit ELF file names; one that is linked statically names none.
fn elf(head: &[u8]) -> Option<PathBuf> {
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let number = |at: usize, length: usize| {
        let bytes = head.get(at..at + length)?;
        let number = bytes
            .iter()
            .rev()
            .fold(0u64, |all, byte| all << 8 | u64::from(*byte));
        usize::try_from(number).ok()
    };
    let (first, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let headers = (0..count).map(|index| first + index * size);
    let header = headers
        .into_iter()
        .find(|at| number(*at, 4) == usize::try_from(INTERPRETER).ok())?;
    let (offset, length) = (number(header + 8, 8)?, number(header + 32, 8)?);
    let path = head.get(offset..offset.checked_add(length)?)?;
    let path = path.strip_suffix(b"\0").unwrap_or(path);
    Some(PathBuf::from(OsStr::from_bytes(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linked_program_takes_its_loader_and_a_script_its_interpreter() {
        let shell = loader(Path::new("/bin/sh")).unwrap();
        let names = |path: &PathBuf| path.to_string_lossy().contains("/ld-");
        assert!(shell.iter().any(names), "{shell:?}");
        assert!(shell.contains(&"/usr/lib".into()));

        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        std::fs::write(&script, "#! /bin/sh -e\necho\n").unwrap();
        let all = loader(&script).unwrap();
        assert_eq!(all[..2], [script, "/bin/sh".into()]);
        assert_eq!(all[2..], shell[1..]);
    }

    #[test]
    fn a_file_that_is_no_program_takes_itself_only() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("empty", &b""[..]),
            ("short", b"\x7fELF\x02\x01"),
            ("text", b"hello"),
            ("nobody", b"#!\n"),
        ] {
            let file = folder.path().join(name);
            std::fs::write(&file, content).unwrap();
            assert_eq!(loader(&file).unwrap(), [file]);
        }
    }
}
