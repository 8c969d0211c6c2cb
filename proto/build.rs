//! Generates the messages and services from `muster/v1/*.proto` in pure Rust: no protoc on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=muster/v1");
    // Values alone (feature `wire` off) need no messages.
    if std::env::var_os("CARGO_FEATURE_WIRE").is_none() {
        return Ok(());
    }
    let files = protox::compile(
        [
            "muster/v1/agent.proto",
            "muster/v1/enrolment.proto",
            "muster/v1/fleet.proto",
        ],
        ["."],
    )?;
    // What people ask is JSON too; what agents say is not.
    let in_fleet = files
        .file
        .iter()
        .filter(|file| file.name().ends_with("fleet.proto"))
        .flat_map(|file| &file.message_type)
        .map(|message| message.name().to_owned());
    let rows = [
        "ApplicationStatus",
        "ObjectStatus",
        "ObjectKey",
        "Drift",
        "FieldChange",
        "ObjectName",
        "ObjectComparison",
        "FieldComparison",
    ]
    .map(str::to_owned);
    let mut build = tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .field_attribute(
            ".muster.v1.ApplicationStatus.digest",
            "#[serde(with = \"crate::wire::hex\")]",
        )
        .field_attribute(
            ".muster.v1.WorkingFile.content",
            "#[serde(with = \"crate::wire::base64\")]",
        );
    for message in in_fleet.chain(rows) {
        build = build.type_attribute(
            format!(".muster.v1.{message}"),
            // A client that leaves out a field means its default, as in protobuf itself.
            "#[derive(serde::Serialize, serde::Deserialize)] #[serde(default, rename_all = \"camelCase\")]",
        );
    }
    build.compile_fds(files)?;
    Ok(())
}
