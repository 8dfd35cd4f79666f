// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration
internal import Synchronization
internal import Transport

/// The descriptors of a request on their way to the lane that uses them. What nobody takes is closed with it.
final class Carried: Sendable {
  private let descriptors: Mutex<ReceivedDescriptors>

  init(_ descriptors: consuming ReceivedDescriptors) { self.descriptors = Mutex(descriptors) }

  /// Both.
  func take() -> ReceivedDescriptors {
    descriptors.withLock { descriptors in
      ReceivedDescriptors(first: descriptors.first.take(), second: descriptors.second.take())
    }
  }

  func takeFirst() -> Descriptor? { descriptors.withLock { $0.first.take() } }
  func takeSecond() -> Descriptor? { descriptors.withLock { $0.second.take() } }

  /// The first, as the channel of a stream.
  func channel() throws(HelperFailure) -> DescriptorChannel {
    guard let descriptor = takeFirst() else { throw HelperFailure(.badPacket, "the stream's descriptor is missing") }
    do throws(SystemError) {
      let isTwoWay = try descriptor.isSocket()
      return try DescriptorChannel(owning: descriptor, isTwoWay: isTwoWay)
    } catch {
      throw HelperFailure(error)
    }
  }

  /// The second, as the channel of guest memory, which brings answers.
  func memoryChannel() throws(HelperFailure) -> DescriptorChannel {
    guard let descriptor = takeSecond() else { throw HelperFailure(.badPacket, "the memory's descriptor is missing") }
    do throws(SystemError) {
      if try descriptor.isSocket() { return try DescriptorChannel(owning: descriptor, isTwoWay: true) }
    } catch {
      throw HelperFailure(error)
    }
    throw HelperFailure(
      .badArgument, "guest memory goes over a connected stream socket, and the second descriptor is none")
  }

  /// The first, which has to be a file: anything else could have its reader wait. One whose file system is a program of the VMM's
  /// (FUSE) can, too: only this session waits then.
  func file() throws(HelperFailure) -> CarriedFile {
    guard let descriptor = takeFirst() else { throw HelperFailure(.badPacket, "the file is missing") }
    let isFile: Bool
    do throws(SystemError) {
      isFile = try descriptor.isRegularFile()
    } catch {
      throw HelperFailure(error)
    }
    guard isFile else { throw HelperFailure(.badArgument, "\(descriptor.subject) is no regular file, and no memfd") }
    return CarriedFile(descriptor)
  }
}

/// A file that a VMM has sent. Its size is the VMM's affair and may change; reading what is not there is an error.
struct CarriedFile: ~Copyable {
  private let descriptor: Descriptor

  init(_ descriptor: consuming Descriptor) { self.descriptor = descriptor }

  func bytes(at offset: UInt64, count: Int) throws(HelperFailure) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    var got = 0
    do throws(SystemError) {
      while got < count {
        var span = bytes.mutableSpan
        var rest = span._mutatingExtracting(got..<count)
        let more = try descriptor.read(into: &rest, at: Int(clamping: offset) + got)
        if more == 0 { break }
        got += more
      }
    } catch {
      throw HelperFailure(error)
    }
    guard got == count else {
      throw HelperFailure(.badArgument, "the file ends at byte \(offset &+ UInt64(got)), and more is needed")
    }
    return bytes
  }
}
