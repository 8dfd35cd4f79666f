// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration
internal import Synchronization

/// What is done on the two lanes of a device. Aborting goes down the control lane and ends a data lane that is blocked.
final class DeviceLanes: Sendable {
  private let device: any MigratableDevice
  private let index: Int
  private let checksum: StreamChecksum
  private let inbox: SessionInbox
  /// The session that the last state request opened. A read that is under way keeps its session alive by itself.
  private let session = Mutex<(any MigrationData)?>(nil)

  init(
    device: any MigratableDevice, index: Int, checksum: StreamChecksum, inbox: SessionInbox
  ) {
    self.device = device
    self.index = index
    self.checksum = checksum
    self.inbox = inbox
  }

  private var data: (any MigrationData)? { session.withLock { $0 } }

  func control(_ request: ControlRequest) -> [LaneCrew.Job] {
    let began = MonotonicTime(microseconds: monotonicMicroseconds())
    let result: Result<ControlAnswer, DeviceError>
    do throws(DeviceError) {
      result = .success(try answer(request))
    } catch {
      result = .failure(error)
    }
    let ended = MonotonicTime(microseconds: monotonicMicroseconds())
    let hasFailed = if case .failure = result { true } else { false }
    // A session that waits for several devices need not hear of each that did as it was asked.
    let times = RequestTimes(began: began, ended: ended)
    return inbox.following(.control(device: index, request, result, times), isUrgent: hasFailed)
  }

  private func answer(_ request: ControlRequest) throws(DeviceError) -> ControlAnswer {
    switch request {
    case .setState(let state):
      let opened = try device.setMigrationState(state)
      if let opened {
        session.withLock { $0 = opened }
      } else if !state.hasDataDescriptor {
        session.withLock { $0 = nil }
      }
      return .moved(openedData: opened != nil)
    case .readState:
      return .state(try device.migrationState())
    case .preCopyInfo:
      guard let data else { throw DeviceError(.preCopyInfo, .errno(.noDevice)) }
      return .preCopyInfo(try data.preCopyInfo())
    case .stopCopySize:
      return .stopCopySize(try device.stopCopySize())
    case .flush:
      try device.flush()
      return .flushed
    case .reset:
      try device.reset()
      session.withLock { $0 = nil }
      return .reset
    }
  }

  func read(into buffer: TransferBuffer, number: Int) -> [LaneCrew.Job] {
    let result: Result<DataRead, DeviceError>
    do throws(DeviceError) {
      guard let data else { throw DeviceError(.readData, .errno(.noDevice)) }
      let got = try buffer.withMutableSpan { (span: inout MutableSpan<UInt8>) throws(DeviceError) in
        try data.read(into: &span)
      }
      // Here and not where it is sent: the bytes are in this processor's cache, and the sending lane has enough to do.
      if case .bytes(let count) = got { buffer.checksum = buffer.withSpan(first: count) { checksum($0) } }
      result = .success(got)
    } catch {
      result = .failure(error)
    }
    return inbox.following(.read(device: index, buffer: number, result))
  }

  func write(_ bytes: Int, of buffer: TransferBuffer, number: Int) -> [LaneCrew.Job] {
    var failure: DeviceError?
    do throws(DeviceError) {
      guard let data else { throw DeviceError(.writeData, .errno(.noDevice)) }
      try buffer.withSpan(first: bytes) { (span: Span<UInt8>) throws(DeviceError) in try data.write(span) }
    } catch {
      failure = error
    }
    return inbox.following(.written(device: index, buffer: number, failure))
  }
}
