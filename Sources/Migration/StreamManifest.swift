// SPDX-License-Identifier: Apache-2.0

/// The first frame of a stream: which devices it carries.
public struct StreamManifest: Hashable, Sendable {
  /// One device of the stream.
  public struct Device: Hashable, Sendable {
    /// The device's name on the source: printable ASCII, at most 255 bytes.
    public var name: String
    /// The name of the kernel driver that the state belongs to, at most 63 bytes. States of different drivers never
    /// fit each other.
    public var driver: String
    /// What the driver supports on the source.
    public var features: MigrationFeatures
    /// What must match on the destination (DA7): a ``CompatibilityTag``'s text, opaque here; at most 65,536 bytes, empty where nothing is
    /// known.
    public var tag: [UInt8]

    /// A record; whether it can be written, the manifest's ``StreamManifest/problem`` tells.
    public init(name: String, driver: String, features: MigrationFeatures, tag: [UInt8] = []) {
      self.name = name
      self.driver = driver
      self.features = features
      self.tag = tag
    }
  }

  /// The devices, in the order of the frames' device indices.
  public var devices: [Device]

  /// Whether the source and the destination agree on who runs: the destination answers that it has loaded everything, the
  /// source commits, and only then does anything run there. Wants a channel with two ways.
  public var commits: Bool

  /// A manifest of these devices, in this order.
  public init(devices: [Device], commits: Bool = false) {
    self.devices = devices
    self.commits = commits
  }

  static let commitFlag: UInt32 = 1
  static let maximumRecordSize = 131_072
  static let maximumNameSize = 255
  static let maximumDriverSize = 63
  static let maximumTagSize = 65_536

  /// The frame's payload.
  public func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(littleEndian: UInt32(devices.count))
    bytes.append(littleEndian: UInt32(commits ? Self.commitFlag : 0))
    for device in devices {
      var record: [UInt8] = []
      record.append(littleEndian: device.features.rawValue)
      for text in [device.name, device.driver] {
        record.append(littleEndian: UInt16(text.utf8.count))
        record += Array(text.utf8)
      }
      record.append(littleEndian: UInt32(device.tag.count))
      record += device.tag
      bytes.append(littleEndian: UInt32(record.count))
      bytes += record
    }
    return bytes
  }

  /// Why a manifest can't be written or read, in words; nil where it can.
  public var problem: String? {
    if devices.isEmpty { return "it names no device" }
    if devices.count > StreamFormat.maximumDevices { return "it names \(devices.count) devices, more than 256" }
    for device in devices {
      for (text, cap) in [(device.name, Self.maximumNameSize), (device.driver, Self.maximumDriverSize)]
      where text.utf8.count > cap || !text.utf8.allSatisfy({ (0x20...0x7e).contains($0) }) {
        return "a name in it is not printable ASCII of at most \(cap) bytes"
      }
      if device.tag.count > Self.maximumTagSize { return "a tag in it is longer than \(Self.maximumTagSize) bytes" }
    }
    return encoded().count > StreamFormat.maximumManifestSize
      ? "it is longer than \(StreamFormat.maximumManifestSize) bytes" : nil
  }

  /// Why a payload is not a manifest.
  struct Malformed: Error, Hashable { let reason: String }

  /// Reads the frame's payload; every length in it is checked against its cap and against what is left.
  init(decoding payload: Span<UInt8>) throws(Malformed) {
    var reader = ByteReader(payload)
    guard reader.remaining >= 8 else { throw Malformed(reason: "it is cut short") }
    let count = Int(reader.u32())
    guard (1...StreamFormat.maximumDevices).contains(count) else {
      throw Malformed(reason: "it claims \(count) devices; 1 to \(StreamFormat.maximumDevices) are possible")
    }
    let flags = reader.u32()
    guard flags & ~Self.commitFlag == 0 else {
      throw Malformed(reason: "its flags are \(flags), which this program does not know: a newer vfio-ferry wrote it")
    }
    commits = flags & Self.commitFlag != 0
    devices = []
    for _ in 0..<count {
      guard reader.remaining >= 4 else { throw Malformed(reason: "it is cut short") }
      let length = Int(reader.u32())
      guard length <= Self.maximumRecordSize, length <= reader.remaining else {
        throw Malformed(reason: "a record in it claims \(length) bytes")
      }
      let end = reader.remaining - length
      devices.append(try Self.record(&reader, end: end))
      reader.skip(reader.remaining - end)
    }
    guard reader.remaining == 0 else { throw Malformed(reason: "\(reader.remaining) bytes follow its last record") }
    if let problem { throw Malformed(reason: problem) }
  }

  private static func record(_ reader: inout ByteReader, end: Int) throws(Malformed) -> Device {
    func need(_ count: Int, _ reader: borrowing ByteReader) throws(Malformed) {
      guard reader.remaining - end >= count else { throw Malformed(reason: "a record in it is cut short") }
    }
    try need(10, reader)
    let features = MigrationFeatures(rawValue: reader.u64())
    var texts: [String] = []
    for _ in 0..<2 {
      try need(2, reader)
      let length = Int(reader.u16())
      try need(length, reader)
      guard let text = String(validating: reader.array(length), as: UTF8.self) else {
        throw Malformed(reason: "a name in it is not text")
      }
      texts.append(text)
    }
    try need(4, reader)
    let length = Int(reader.u32())
    try need(length, reader)
    return Device(name: texts[0], driver: texts[1], features: features, tag: reader.array(length))
  }
}
