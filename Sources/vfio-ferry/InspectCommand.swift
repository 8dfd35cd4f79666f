// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import Migration

struct InspectCommand: FerryCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect", abstract: "Check a saved stream and say what it holds. No device is needed.")

  @OptionGroup var format: FormatOptions

  @Flag(help: "List every frame.")
  var frames = false

  @Argument(help: ArgumentHelp("The file; - is standard input.", valueName: "FILE"))
  var file: String

  func execute(_ console: Console) throws {
    let asJSON = format.wantsJSON
    var listed: [JSON] = []
    let summary = try StreamSummary(try InputFile(file)) { frame in
      guard frames else { return }
      let (name, device, bytes) = frame.item.description
      if asJSON {
        listed.append(
          .object([
            "frame": .unsigned(frame.number), "offset": .unsigned(frame.offset), "type": .string(name),
            "device": JSON(device), "bytes": JSON(bytes),
          ]))
      } else {
        console.line(
          "frame \(frame.number) at \(frame.offset): \(name)" + (device.map { " of device \($0)" } ?? "")
            + (bytes.map { ", \($0) bytes" } ?? ""))
      }
    }
    if asJSON {
      var members = [
        JSON.Member(key: "file", value: .string(file)), JSON.Member(key: "complete", value: .bool(true)),
        JSON.Member(key: "stream_bytes", value: .unsigned(summary.bytes)),
        JSON.Member(key: "frames", value: .unsigned(summary.frames)),
        JSON.Member(key: "skipped_frames", value: .integer(Int64(summary.skippedFrames))),
        JSON.Member(key: "devices", value: .array(summary.devices.map(\.json))),
      ]
      if frames { members.append(JSON.Member(key: "frame_list", value: .array(listed))) }
      console.json(.object(members), format)
      return
    }
    console.line("a complete stream of \(summary.bytes) bytes in \(summary.frames) frames")
    for (index, device) in summary.devices.enumerated() {
      console.line(
        "device \(index): \(device.manifest.name), driver \(device.manifest.driver), "
          + "\(device.manifest.features.names.joined(separator: ",")): \(device.bytes) bytes of state"
          + (device.voids > 0 ? ", begun anew \(device.voids) times" : "")
          + (device.vmmStateBytes.map { ", \($0) bytes of the VMM's own" } ?? ""))
    }
    if summary.skippedFrames > 0 { console.line("\(summary.skippedFrames) optional frames are of unknown types") }
  }
}

extension StreamSummary.Device {
  var json: JSON {
    .object([
      "name": .string(manifest.name), "driver": .string(manifest.driver),
      "features": .array(manifest.features.names.map { .string($0) }), "tag_bytes": .integer(Int64(manifest.tag.count)),
      "state_bytes": .unsigned(bytes), "data_frames": .unsigned(frames), "voids": .integer(Int64(voids)),
      "initial_complete": .bool(initialComplete), "vmm_state_bytes": JSON(vmmStateBytes),
    ])
  }
}

extension StreamItem {
  /// The frame's type, its device, and how much is in it.
  var description: (name: String, device: Int?, bytes: Int?) {
    switch self {
    case .manifest(let manifest): (FrameType.manifest.name, nil, manifest.encoded().count)
    case .deviceData(let device, let bytes): (FrameType.deviceData.name, device, bytes)
    case .initialComplete(let device): (FrameType.initialComplete.name, device, nil)
    case .void(let device): (FrameType.void.name, device, nil)
    case .vmmState(let device, let bytes): (FrameType.vmmState.name, device, bytes.count)
    case .deviceEnd(let device, _): (FrameType.deviceEnd.name, device, nil)
    case .end: (FrameType.end.name, nil, nil)
    case .commit: (FrameType.commit.name, nil, nil)
    case .initialLoaded(let device): (FrameType.initialLoaded.name, device, nil)
    case .loaded: (FrameType.loaded.name, nil, nil)
    case .running: (FrameType.running.name, nil, nil)
    case .givenUp: (FrameType.givenUp.name, nil, nil)
    case .skipped(let type): ("unknown type \(type), skipped", nil, nil)
    }
  }
}
