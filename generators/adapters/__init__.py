"""Trained motion transfer: small parameters beside a frozen backbone, fitted to the motion of one clip."""
