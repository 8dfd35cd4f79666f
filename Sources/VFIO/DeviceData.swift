// SPDX-License-Identifier: Apache-2.0
internal import CVFIO
internal import LinuxIO
internal import Migration

/// A data session of a kernel device: the descriptor that SET of a saving state or of RESUMING returned.
///
/// It owns the descriptor, which is a stream: it can't be sought, and `poll` on it means nothing on most drivers.
final class DeviceData: MigrationData {
  private let descriptor: Descriptor
  private let infoIsVersion2: Bool

  init(owning descriptor: consuming Descriptor, infoIsVersion2: Bool) {
    self.descriptor = descriptor
    self.infoIsVersion2 = infoIsVersion2
  }

  /// ENOMSG and 0 are the same here: nothing now. Which end it is, the device's state tells.
  func read(into buffer: inout MutableSpan<UInt8>) throws(DeviceError) -> DataRead {
    do throws(SystemError) {
      let count = try descriptor.read(into: &buffer)
      return count == 0 ? .end : .bytes(count)
    } catch {
      let number = ErrorNumber(rawValue: error.errno)
      if number == .noMessage { return .end }
      throw DeviceError(.readData, .errno(number))
    }
  }

  func write(_ bytes: Span<UInt8>) throws(DeviceError) {
    var taken = 0
    while taken < bytes.count {
      let count: Int
      do throws(SystemError) {
        count = try descriptor.write(bytes.extracting(taken..<bytes.count))
      } catch {
        throw DeviceError(.writeData, .errno(ErrorNumber(rawValue: error.errno)))
      }
      if count == 0 { throw DeviceError(.writeData, .shortWrite(taken: taken, of: bytes.count)) }
      taken += count
    }
  }

  /// The corresponding C constant is `VFIO_MIG_GET_PRECOPY_INFO`.
  func preCopyInfo() throws(DeviceError) -> PreCopyInfo {
    var info = vf_vfio_precopy_info()
    info.argsz = UInt32(MemoryLayout<vf_vfio_precopy_info>.size)
    do throws(SystemError) {
      try descriptor.ioctl(VF_VFIO_MIG_GET_PRECOPY_INFO, "asking for the pre-copy info of", &info)
    } catch {
      throw DeviceError(.preCopyInfo, .errno(ErrorNumber(rawValue: error.errno)))
    }
    // Without the opt-in the flags are whatever the kernel left there.
    let restarted = infoIsVersion2 && info.flags & UInt32(VF_VFIO_PRECOPY_INFO_REINIT) != 0
    return PreCopyInfo(
      initialBytes: info.initial_bytes, dirtyBytes: info.dirty_bytes, restartedInitial: restarted)
  }
}
