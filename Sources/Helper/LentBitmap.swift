// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxIO
public import Migration
internal import Synchronization

/// Guest memory that the VMM sends: after each reading it gets the bitmap, and the session waits until it hands it
/// back.
public final class LentBitmap: MovingMemory {
  /// What the VMM gets to know with the bitmap.
  public struct Loan: Hashable, Sendable {
    /// Which reading it was.
    public let moment: DirtyMoment
    /// What is dirty.
    public let reading: DirtyReading
  }

  private let tracking: GuestTracking
  private let devices: [UInt32]
  private let lend: @Sendable (Loan) -> Void
  private let current = Mutex<Loan?>(nil)
  /// What comes back: bytes that the VMM has sent. Closed where the session is over.
  private let returned = BlockingQueue<UInt64>()

  /// - Parameters:
  ///   - tracking: is on; the bitmap is nobody else's from now on.
  ///   - devices: what it calls the session's devices, in the session's order.
  ///   - lend: told of each reading, on the thread that made it. From then on the bitmap may be given to the VMM.
  public init(_ tracking: GuestTracking, devices: [UInt32], lend: @escaping @Sendable (Loan) -> Void) {
    self.tracking = tracking
    self.devices = devices
    self.lend = lend
  }

  /// The loan that has not come back; nil while the bitmap is the helper's.
  public var loan: Loan? { current.withLock { $0 } }

  public func read(_ moment: DirtyMoment) -> DirtyReading {
    // A session sends after each reading; where one did not, the VMM has its turn to the end.
    if let loan, (try? send()) == nil { return loan.reading }
    let loan = Loan(moment: moment, reading: tracking.read(moment))
    current.withLock { $0 = loan }
    lend(loan)
    return loan.reading
  }

  public func restartTracking(device: Int) {
    if devices.indices.contains(device) { tracking.restart(device: devices[device]) }
  }

  /// Waits until the VMM hands the bitmap back. What it has cleared was sent; the rest stays dirty.
  public func send() throws(MovingMemoryError) -> UInt64 {
    guard let bytes = returned.take() else {
      throw MovingMemoryError("waiting for the VMM to send guest memory", errno: ErrorNumber(rawValue: ECANCELED))
    }
    return bytes
  }

  /// The VMM gives the bitmap back, from any thread: it has cleared what it has sent, and touches it no more until it
  /// is lent again.
  /// - Returns: whether it had it.
  @discardableResult
  public func handBack(bytesSent: UInt64) -> Bool {
    let had = current.withLock { loan in
      defer { loan = nil }
      return loan != nil
    }
    if had { returned.put(bytesSent) }
    return had
  }

  public func cancel() {
    current.withLock { $0 = nil }
    returned.close()
  }
}
