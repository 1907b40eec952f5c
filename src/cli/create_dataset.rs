//! `stoker dataset create`: from a file or folder of this machine, or from a URL or bucket that the
//! server fetches.

use std::path::{Path, PathBuf};

use clap::Args;
use stoker_domain::dataset::{DataFormat, DatasetRecord};
use stoker_sdk::{Header, IdempotencyKey, NewDataset, RemoteDataset, Upload};

use super::exit::Failure;
use super::pack::{self, Packed};
use super::unfinished::Unfinished;
use super::{Session, argument, transfer};

const HEADERS: [Header; 3] = [Header::Auto, Header::Yes, Header::No];

/// What to make a data set of.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The data set's name.
    name: String,
    /// The file; a folder's pictures are packed first, labelled by the folders they are in.
    #[arg(required_unless_present = "from", conflicts_with = "from")]
    file: Option<PathBuf>,
    /// Where the bytes are: a file or folder, or what the server is to fetch, as in
    /// https://data.example.org/a.csv or s3://bucket/a.csv. Its operator must allow it.
    #[arg(long, value_name = "WHERE")]
    from: Option<String>,
    /// The operator's name of the credentials to fetch with.
    #[arg(long, value_name = "NAME", requires = "from")]
    credentials: Option<String>,
    /// How it is written; told from the file's name when not given.
    #[arg(long, value_parser = argument::one_of(&DataFormat::ALL, DataFormat::as_str))]
    format: Option<DataFormat>,
    /// Whether a CSV's first row names the columns; auto: if it holds no number.
    #[arg(long, default_value = "auto", value_parser = argument::one_of(&HEADERS, Header::as_str))]
    header: Header,
    /// Make at most one version, however often this is run with the same key.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<IdempotencyKey>,
}

/// Makes the data set.
pub(super) async fn run(
    mut arguments: Arguments,
    session: &Session,
) -> Result<DatasetRecord, Failure> {
    match place(arguments.file.take(), arguments.from.take())? {
        Place::Here(path) if arguments.credentials.is_some() => Err(Failure::input(format!(
            "--credentials are for what the server fetches, not for {}",
            path.display()
        ))),
        Place::Here(path) => upload(path, arguments, session).await,
        Place::There(uri) => fetch(uri, arguments, session).await,
    }
}

/// Where the bytes are.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// On this machine.
    Here(PathBuf),
    /// Where the server gets them.
    There(String),
}

fn place(file: Option<PathBuf>, from: Option<String>) -> Result<Place, Failure> {
    let Some(from) = from else {
        let none = || Failure::input("give a file, or --from WHERE");
        return file.map(Place::Here).ok_or_else(none);
    };
    match from.split_once("://") {
        None => Ok(Place::Here(from.into())),
        Some(("https" | "http" | "s3", _)) => Ok(Place::There(from)),
        Some((scheme, _)) => Err(Failure::input(format!(
            "--from: {scheme}:// isn't fetched; give a path, https://… or s3://bucket/key"
        ))),
    }
}

async fn fetch(
    from: String,
    arguments: Arguments,
    session: &Session,
) -> Result<DatasetRecord, Failure> {
    // What comes after `?` may be secret.
    let shown = from.split('?').next().unwrap_or_default();
    let bar = transfer::spinner(&session.output, &format!("the server fetches {shown}"));
    let new = RemoteDataset {
        name: arguments.name,
        format: arguments.format,
        header: arguments.header,
        from,
        credentials: arguments.credentials,
    };
    let key = arguments.idempotency_key;
    let key = key.unwrap_or_else(IdempotencyKey::generate);
    let outcome = session.client.create_dataset_from(&new, &key).await;
    bar.finish_and_clear();
    Ok(outcome?)
}

async fn upload(
    file: PathBuf,
    arguments: Arguments,
    session: &Session,
) -> Result<DatasetRecord, Failure> {
    let is_folder = file.is_dir();
    let format = match arguments.format {
        Some(DataFormat::Images) | None if is_folder => DataFormat::Images,
        Some(other) if is_folder => {
            return Err(Failure::input(format!(
                "{}: a folder is packed as images, not as {}",
                file.display(),
                other.as_str()
            )));
        }
        Some(format) => format,
        None => told_by_name(&file)?,
    };
    // The packed folder stays until it was sent.
    let packed = match is_folder {
        true => Some(pack_shown(&file, session)?),
        false => None,
    };
    let path = packed.as_ref().map(|packed| packed.file.path().to_owned());
    let bar = transfer::bar(&session.output, &format!("uploading {}", file.display()));
    let shown = bar.clone();
    let memory = Unfinished::of(&file, session);
    let mut upload = Upload::from_path(path.unwrap_or(file))
        .with_progress(move |progress| transfer::show(&shown, progress));
    if let Some(memory) = memory {
        upload = upload.with_memory(memory);
    }
    if let Some(key) = arguments.idempotency_key {
        upload = upload.with_key(key);
    }
    let new = NewDataset {
        name: arguments.name,
        format,
        header: arguments.header,
    };
    let outcome = session.client.create_dataset(&new, &upload).await;
    bar.finish_and_clear();
    if matches!(&outcome, Err(error) if error.retryable()) && upload.is_remembered() {
        session
            .output
            .note("what has arrived is kept: the same command goes on from there");
    }
    Ok(outcome?)
}

fn pack_shown(folder: &Path, session: &Session) -> Result<Packed, Failure> {
    let bar = transfer::bar(&session.output, &format!("packing {}", folder.display()));
    let packed = pack::pack(folder, |progress| transfer::show(&bar, progress));
    bar.finish_and_clear();
    let packed = packed?;
    if packed.left_out > 0 {
        session.output.note(&format!(
            "{} pictures packed; {} other files left out",
            packed.pictures, packed.left_out
        ));
    }
    Ok(packed)
}

fn told_by_name(file: &Path) -> Result<DataFormat, Failure> {
    DataFormat::of_file_name(&file.to_string_lossy()).ok_or_else(|| {
        let known = DataFormat::ALL.map(DataFormat::as_str).join(", ");
        Failure::input(format!(
            "{}: its name doesn't tell its format; give --format, one of {known}",
            file.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_told_by_the_file_name_or_must_be_given() {
        assert_eq!(
            told_by_name("a/digits.csv.gz".as_ref()),
            Ok(DataFormat::CsvGz)
        );
        assert_eq!(
            told_by_name("digits.parquet".as_ref()),
            Ok(DataFormat::Parquet)
        );
        let failure = told_by_name("digits.xlsx".as_ref()).unwrap_err();
        assert!(
            failure
                .message
                .ends_with("npz, text, text_gz, images, tokenizer"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn a_place_is_here_or_there() {
        let from = |text: &str| place(None, Some(text.to_owned()));
        assert_eq!(from("a.csv"), Ok(Place::Here("a.csv".into())));
        assert_eq!(from("/a/b"), Ok(Place::Here("/a/b".into())));
        for uri in [
            "https://example.org/a.csv",
            "http://x/a.csv",
            "s3://b/a.csv",
        ] {
            assert_eq!(from(uri), Ok(Place::There(uri.to_owned())));
        }
        assert_eq!(place(Some("a".into()), None), Ok(Place::Here("a".into())));
        let failure = from("ftp://example.org/a.csv").unwrap_err();
        assert!(failure.message.contains("ftp://"), "{}", failure.message);
    }
}
