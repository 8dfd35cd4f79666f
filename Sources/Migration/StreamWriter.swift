// SPDX-License-Identifier: Apache-2.0

/// A frame that a session wants sent. Whoever sends it computes the checksums, next to the bytes.
public struct OutgoingFrame: Hashable, Sendable {
  /// Where the payload is.
  public enum Payload: Hashable, Sendable {
    /// Here.
    case bytes([UInt8])
    /// In this transfer buffer, from its start, as many bytes as the header says.
    case buffer(Int)
  }

  /// The header; checksums are added when it is encoded.
  public let header: FrameHeader
  /// Where the payload is.
  public let payload: Payload
}

extension OutgoingFrame {
  /// The only word of a destination that ends a move before it has begun with its devices.
  public static func givenUp(_ reason: StreamReason) -> OutgoingFrame {
    var writer = StreamWriter()
    return writer.givenUp(reason)
  }
}

/// Numbers the frames of a stream in the order in which they are to be sent, and keeps to the grammar.
struct StreamWriter: Hashable, Sendable {
  private var grammar = StreamGrammar()

  /// Frames numbered so far.
  var frames: UInt64 { grammar.nextSequence }

  mutating func manifest(_ manifest: StreamManifest) -> OutgoingFrame {
    let payload = manifest.encoded()
    let header = FrameHeader(type: .manifest, sequence: grammar.nextSequence, length: payload.count)
    keep { grammar throws(StreamGrammar.Violation) in try grammar.take(manifest: manifest) }
    return OutgoingFrame(header: header, payload: .bytes(payload))
  }

  mutating func deviceData(device: Int, buffer: Int, bytes: Int) -> OutgoingFrame {
    frame(.deviceData, device: device, length: bytes, payload: .buffer(buffer))
  }

  mutating func mark(_ type: FrameType, device: Int) -> OutgoingFrame {
    frame(type, device: device, length: 0, payload: .bytes([]))
  }

  mutating func vmmState(device: Int, bytes: [UInt8]) -> OutgoingFrame {
    frame(.vmmState, device: device, length: bytes.count, payload: .bytes(bytes))
  }

  mutating func deviceEnd(device: Int) -> OutgoingFrame {
    let progress = grammar.devices?[device] ?? StreamGrammar.DeviceProgress()
    return totals(.deviceEnd, device: device, [progress.bytes, progress.frames])
  }

  mutating func end() -> OutgoingFrame {
    totals(.end, device: nil, [grammar.nextSequence])
  }

  /// A frame about the whole group that carries nothing: a commit, or an answer.
  mutating func word(_ type: FrameType) -> OutgoingFrame {
    frame(type, device: nil, length: 0, payload: .bytes([]))
  }

  /// The destination ends the move.
  mutating func givenUp(_ reason: StreamReason) -> OutgoingFrame {
    frame(.givenUp, device: nil, length: reason.bytes.count, payload: .bytes(reason.bytes))
  }

  private mutating func totals(_ type: FrameType, device: Int?, _ numbers: [UInt64]) -> OutgoingFrame {
    var payload: [UInt8] = []
    for number in numbers { payload.append(littleEndian: number) }
    return frame(type, device: device, length: payload.count, payload: .bytes(payload), numbers: numbers)
  }

  private mutating func frame(
    _ type: FrameType, device: Int?, length: Int, payload: OutgoingFrame.Payload, numbers: [UInt64] = []
  ) -> OutgoingFrame {
    let header = FrameHeader(type: type, device: device, sequence: grammar.nextSequence, length: length)
    keep { grammar throws(StreamGrammar.Violation) in
      try grammar.take(type, device: device, length: length, numbers: numbers)
    }
    return OutgoingFrame(header: header, payload: payload)
  }

  /// A violation here is a fault of this program, not of anything outside.
  private mutating func keep(_ step: (inout StreamGrammar) throws(StreamGrammar.Violation) -> Void) {
    do { try step(&grammar) } catch { preconditionFailure("the writer broke the stream's grammar: \(error.reason)") }
  }
}
