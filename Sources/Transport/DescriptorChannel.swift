// SPDX-License-Identifier: Apache-2.0
internal import Glibc
public import LinuxIO
public import Migration
internal import Synchronization

/// A channel over one open descriptor: a file, a pipe, a terminal, a socket.
///
/// It owns the descriptor and closes it with the last reference. The descriptor's mode is left alone, because others may
/// share it; calls that wait can be cancelled in either mode.
public final class DescriptorChannel: ConnectedChannel {
  /// What messages call it.
  public let name: String
  /// Whether both directions are used.
  public let isTwoWay: Bool
  private let descriptor: Descriptor
  /// Where a file stood when the channel got it.
  private let start: Int?
  private let cancellation: Cancellation
  private let isCancelled = Atomic(false)
  /// Regular files never make a caller wait, and `poll` says nothing of them.
  private let waits: Bool
  /// A pipe that poll calls writable takes at least so many bytes without waiting.
  private static let pipeBuffer = 4096

  /// - Parameters:
  ///   - descriptor: becomes the channel's own, in success and in failure.
  ///   - isTwoWay: whether the other end answers on the same descriptor.
  public init(owning descriptor: consuming Descriptor, isTwoWay: Bool = false) throws(SystemError) {
    name = descriptor.subject
    self.isTwoWay = isTwoWay
    waits = try !descriptor.isRegularFile()
    cancellation = try Cancellation()
    start = waits ? nil : descriptor.position
    self.descriptor = descriptor
  }

  private func failure(_ operation: String, _ error: SystemError) -> ChannelError {
    ChannelError(operation, channel: name, errno: ErrorNumber(rawValue: error.errno))
  }

  public func write(_ header: Span<UInt8>, _ payload: Span<UInt8>) throws(ChannelError) {
    var taken = 0
    var mayAskNotToWait = true
    // Mostly there is room, and asking would cost as much as writing.
    var mustWait = false
    while taken < header.count + payload.count {
      let first = header.extracting(min(taken, header.count)..<header.count)
      let second = payload.extracting(max(0, taken - header.count)..<payload.count)
      if waits, isCancelled.load(ordering: .sequentiallyConsistent) {
        throw ChannelError("writing", channel: name, errno: ErrorNumber(rawValue: ECANCELED))
      }
      do throws(SystemError) {
        if !waits {
          taken += try descriptor.write(first, second)
          continue
        }
        if mustWait || !mayAskNotToWait { try cancellation.wait(for: .write, on: descriptor) }
        if mayAskNotToWait {
          taken += try descriptor.write(first, second, waits: false)
        } else {
          // Named pipes, among others: what poll says can be written is this much, and no more.
          let piece = first.count > 0 ? first : second
          taken += try descriptor.write(piece.extracting(first: Self.pipeBuffer))
        }
      } catch {
        if error.errno == EOPNOTSUPP, mayAskNotToWait {
          mayAskNotToWait = false
        } else if error.errno == EAGAIN {
          mustWait = true
        } else {
          throw failure("writing", error)
        }
      }
    }
  }

  public func read(into buffer: inout MutableSpan<UInt8>) throws(ChannelError) -> Int {
    while true {
      do throws(SystemError) {
        if waits { try cancellation.wait(for: .read, on: descriptor) }
        return try descriptor.read(into: &buffer)
      } catch {
        if error.errno != EAGAIN { throw failure("reading", error) }
      }
    }
  }

  /// A file is on its disk when this returns.
  public func finish() throws(ChannelError) {
    do throws(SystemError) {
      try descriptor.synchronize()
    } catch {
      throw failure("finishing", error)
    }
  }

  public func cancel() {
    isCancelled.store(true, ordering: .sequentiallyConsistent)
    cancellation.cancel()
  }

  /// Goes back to where the channel began, where the descriptor is a file.
  /// - Returns: whether it did.
  public func rewind() -> Bool { start.map { descriptor.seek(to: $0) != nil } ?? false }

  public func hangUp(within microseconds: UInt64) {
    guard waits else { return }
    descriptor.endSending()
    if microseconds == 0 { return }
    let deadline = monotonicMicroseconds() + microseconds
    var dropped = [UInt8](repeating: 0, count: 1 << 16)
    do throws(SystemError) {
      let farewell = try Cancellation()
      while true {
        try farewell.wait(for: .read, on: descriptor, until: deadline)
        var span = dropped.mutableSpan
        if try descriptor.read(into: &span) == 0 || deadline <= monotonicMicroseconds() { return }
      }
    } catch {
      // The other end is gone, or takes its time: nothing more can be done for it.
      return
    }
  }

  public func isSame(as number: Int32) -> Bool { descriptor.isSame(as: number) }
}
