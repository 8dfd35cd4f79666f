// SPDX-License-Identifier: Apache-2.0
import LinuxIO
import Migration
import Synchronization

/// A channel that brings bytes in pieces, and takes whatever is written.
final class CutChannel: Channel {
  let name = "a channel"
  let isTwoWay = true
  private let bytes: [UInt8]
  private let cuts: [UInt8]
  private let place = Mutex((position: 0, cut: 0, written: 0))

  /// - Parameter cuts: how many bytes come with each read, again and again; 0 is as many as there is room for.
  init(_ bytes: [UInt8], cuts: [UInt8]) {
    self.bytes = bytes
    self.cuts = cuts
  }

  /// Bytes that were written.
  var written: Int { place.withLock { $0.written } }

  func write(_ header: Span<UInt8>, _ payload: Span<UInt8>) {
    let count = header.count + payload.count
    place.withLock { $0.written += count }
  }

  func read(into buffer: inout MutableSpan<UInt8>) -> Int {
    let room = buffer.count
    let part = place.withLock { place in
      let most = cuts.isEmpty ? 0 : Int(cuts[place.cut % cuts.count])
      let count = min(room, bytes.count - place.position, most == 0 ? .max : most)
      defer {
        place.position += count
        place.cut += 1
      }
      return place.position..<place.position + count
    }
    for (index, byte) in bytes[part].enumerated() { buffer[index] = byte }
    return part.count
  }

  func finish() {}
  func cancel() {}
}
