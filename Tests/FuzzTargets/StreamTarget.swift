// SPDX-License-Identifier: Apache-2.0
import Engine
import LinuxIO
import Migration

extension FuzzTarget {
  /// A stream as it comes from a channel, in arbitrary pieces: what it is does not depend on these, and what is believed of
  /// it adds up.
  static let stream = FuzzTarget("stream") { bytes in
    var input = FuzzInput(bytes)
    let cuts = input.take(Int(input.byte() & 7))
    let forged = ForgedStream.bytes(&input, checksum: noChecksum, devices: twoDevices)
    let first = try read(forged, cuts: cuts)
    let second = try read(forged, cuts: [])
    try demand(first == second, "in pieces it is \(first), and in one \(second)")
    try check(first)
  }

  static let twoDevices = [
    StreamManifest.Device(name: "0000:00:00.0", driver: "fake", features: [.stopCopy, .p2p, .preCopy]),
    StreamManifest.Device(name: "0000:00:01.0", driver: "fake", features: [.stopCopy, .p2p, .preCopy]),
  ]

  private struct Reading: Equatable {
    var items: [StreamItem] = []
    var fault: String?
    var bytesRead: UInt64 = 0
  }

  // Taking memory anew for each input costs more than reading it.
  private static let buffer = try! TransferBuffer(count: StreamFormat.maximumDataSize)

  private static func read(_ bytes: [UInt8], cuts: [UInt8]) throws(FuzzFinding) -> Reading {
    var source = FrameSource(channel: CutChannel(bytes, cuts: cuts), checksum: noChecksum)
    var reading = Reading()
    do throws(FrameSource.Fault) {
      while !source.reader.isEnded { reading.items.append(try source.next(buffer: buffer)) }
      if !(try source.isAtEnd()) { reading.fault = "\(source.reader.trailing)" }
    } catch {
      reading.fault = "\(error)"
    }
    reading.bytesRead = source.reader.bytesRead
    try demand(source.reader.bytesRead <= UInt64(bytes.count), "it has read more than came")
    try demand(source.reader.framesRead == UInt64(reading.items.count), "frames were not counted")
    return reading
  }

  /// What has to hold of frames that were believed.
  private static func check(_ reading: Reading) throws(FuzzFinding) {
    var counted: [Int: UInt64] = [:]
    var ended: Set<Int> = []
    var devices: Int?
    for (index, item) in reading.items.enumerated() {
      switch item {
      case .manifest(let manifest):
        try demand(index == 0 && manifest.problem == nil, "a manifest that can't be written")
        devices = manifest.devices.count
      case .deviceData(let device, let bytes):
        try demand(!ended.contains(device) && device < devices ?? 0, "data of a device that has none")
        counted[device, default: 0] += UInt64(bytes)
      case .void(let device): counted[device] = 0
      case .deviceEnd(let device, let bytes):
        try demand(
          counted[device] ?? 0 == bytes && ended.insert(device).inserted, "a device ends otherwise than it came")
      case .end: try demand(ended.count == devices, "an end before all devices have ended")
      default: break
      }
    }
  }
}
