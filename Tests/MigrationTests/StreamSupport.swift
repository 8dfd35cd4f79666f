// SPDX-License-Identifier: Apache-2.0
import Migration

/// A checksum of the tests' own: each byte is added to what was there before and spread by a multiplication that can be
/// undone, so that no single flipped bit goes unseen.
let testChecksum = StreamChecksum { bytes in
  var sum: UInt64 = 0x1234_5678_9abc_def1
  for index in bytes.indices {
    sum = (sum ^ UInt64(bytes[index])) &* 0x0000_0100_0000_01b3
  }
  return sum ^ (sum >> 32)
}

/// One frame of a stream that a test makes by hand, right or wrong.
struct TestFrame {
  var type: UInt16
  var device: Int?
  var payload: [UInt8] = []
  var isOptional = false
  /// nil is the one that is next.
  var sequence: UInt64?
  /// What the header says; nil is the truth.
  var claimedLength: Int?

  static func manifest(_ devices: [StreamManifest.Device] = twoDevices, commits: Bool = false) -> TestFrame {
    TestFrame(type: 1, payload: StreamManifest(devices: devices, commits: commits).encoded())
  }

  static func data(_ device: Int, _ payload: [UInt8]) -> TestFrame {
    TestFrame(type: 2, device: device, payload: payload)
  }
  static func initialComplete(_ device: Int) -> TestFrame { TestFrame(type: 3, device: device) }
  static func void(_ device: Int) -> TestFrame { TestFrame(type: 4, device: device) }
  static func vmmState(_ device: Int, _ payload: [UInt8]) -> TestFrame {
    TestFrame(type: 5, device: device, payload: payload)
  }
  static func deviceEnd(_ device: Int, bytes: UInt64, frames: UInt64) -> TestFrame {
    TestFrame(type: 6, device: device, payload: littleEndian(bytes) + littleEndian(frames))
  }
  static func end(_ frames: UInt64) -> TestFrame { TestFrame(type: 7, payload: littleEndian(frames)) }
}

let twoDevices = [
  StreamManifest.Device(name: "0000:17:00.2", driver: "mlx5_vfio_pci", features: [.stopCopy, .p2p, .preCopy]),
  StreamManifest.Device(name: "mtty", driver: "mtty", features: [.stopCopy], tag: [9, 8, 7]),
]

/// Two devices, every kind of frame, and a void in the middle.
let wholeStream: [TestFrame] = [
  .manifest(), .vmmState(1, [0xaa]), .data(0, [1, 2, 3]), .initialComplete(0), .data(1, [4]), .void(0),
  .data(0, [5, 6]),
  .initialComplete(0), .deviceEnd(1, bytes: 1, frames: 1), .data(0, [7]), .deviceEnd(0, bytes: 3, frames: 2), .end(11),
]

func littleEndian(_ value: UInt64) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) } }

/// The bytes of a stream of these frames, with right checksums, and where each frame begins.
func encode(_ frames: [TestFrame], preamble: [UInt8]? = nil) -> (bytes: [UInt8], offsets: [Int]) {
  var bytes = preamble ?? StreamFormat.preamble(checksum: testChecksum)
  var offsets: [Int] = []
  for (number, frame) in frames.enumerated() {
    offsets.append(bytes.count)
    var header = FrameHeader(
      type: .end, device: frame.device, sequence: frame.sequence ?? UInt64(number),
      length: frame.claimedLength ?? frame.payload.count)
    header.type = frame.type
    header.isOptional = frame.isOptional
    bytes += header.encoded(payload: frame.payload.span, checksum: testChecksum) + frame.payload
  }
  return (bytes, offsets)
}

/// Reads bytes as a stream, as a file is read: a byte after the end is a fault.
func read(_ bytes: [UInt8]) -> Result<[StreamItem], StreamError> {
  var reader = StreamReader(checksum: testChecksum)
  var items: [StreamItem] = []
  var position = 0
  while !reader.isEnded {
    let wanted = reader.wanted
    guard bytes.count - position >= wanted else { return .failure(reader.incomplete) }
    do throws(StreamError) {
      if let item = try reader.take(bytes.span.extracting(position..<(position + wanted))) { items.append(item) }
    } catch {
      return .failure(error)
    }
    position += wanted
  }
  return position == bytes.count ? .success(items) : .failure(reader.trailing)
}

func read(_ frames: [TestFrame]) -> Result<[StreamItem], StreamError> { read(encode(frames).bytes) }

extension Result where Failure == StreamError {
  var error: StreamError? { if case .failure(let error) = self { error } else { nil } }

  /// Why a frame is invalid, where that is the fault.
  var reason: String? { if case .invalid(let reason) = error?.kind { reason } else { nil } }
}
